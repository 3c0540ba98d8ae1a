"""Rounds the first seven convolutions of VGG16 to half precision: the file the library embeds.

    python convert.py vgg16-caffe-conv1_1-conv3_3.safetensors vgg16-conv1_1-conv3_3-f16.safetensors LOW_BITS

Names and layout ([out, in, 3, 3], biases [out]) stay as they are. LOW_BITS (../golden/vgg_low_bits.safetensors)
gets eight more bits of each number, which only the reference tensors need (../golden/README.md).
Standard library only.
"""

import json
import math
import struct
import sys

LICENCE = "Creative Commons Attribution (Visual Geometry Group, University of Oxford)"


def unit(half):
    """The distance of an f16 number to its neighbours: 2^-10 of its power of two, 2^-24 for the smallest."""
    return 2.0 ** (max(math.frexp(half)[1] - 1, -14) - 10) if half else 2.0**-24


def low_bits(value, half):
    """What rounding took away, in 256ths of the unit."""
    return max(-128, min(127, round((value - half) / unit(half) * 256)))


def relative_error(values, others):
    return (sum((a - b) ** 2 for a, b in zip(values, others)) / sum(a * a for a in values)) ** 0.5


def write(path, metadata, tensors):
    data, entries = bytearray(), {"__metadata__": metadata}
    for name, (dtype, shape, raw) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + data)
    return 8 + len(text) + len(data)


def main(source, target, low_target):
    raw = open(source, "rb").read()
    start = 8 + struct.unpack_from("<Q", raw)[0]
    header = json.loads(raw[8:start])
    metadata = {**header.pop("__metadata__", {}), "licence": LICENCE}

    halves, lows, worst, worst_with_low = {}, {}, 0.0, 0.0
    for name in sorted(header):
        dtype, shape, (begin, end) = (header[name][key] for key in ("dtype", "shape", "data_offsets"))
        if dtype != "F32":
            sys.exit(f"{source}: {name} is {dtype}, not F32")
        count = (end - begin) // 4
        values = struct.unpack_from(f"<{count}f", raw, start + begin)
        half = struct.pack(f"<{count}e", *values)  # raises OverflowError beyond f16's range
        rounded = struct.unpack(f"<{count}e", half)
        low = [low_bits(value, half) for value, half in zip(values, rounded)]
        both = [half + low * unit(half) / 256 for half, low in zip(rounded, low)]
        halves[name] = ("F16", shape, half)
        lows[name] = ("I8", shape, struct.pack(f"<{count}b", *low))
        worst = max(worst, relative_error(values, rounded))
        worst_with_low = max(worst_with_low, relative_error(values, both))

    size = write(target, {**metadata, "precision": "rounded from f32 to the nearest f16"}, halves)
    low_size = write(low_target, {**metadata, "precision": "256ths of the f16's unit in the last place"}, lows)
    print(f"{target}: {size} bytes, largest relative error of a tensor (2-norm) {worst:.1e}")
    print(f"{low_target}: {low_size} bytes, with them {worst_with_low:.1e}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
