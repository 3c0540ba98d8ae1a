"""Packs the reference tensors the repository carries, without loss. Standard library only.

    python pack.py FOLDER_WITH_SAFETENSORS [FOLDER_FOR_THE_COPIES]

The format is told in README.md beside this file.
"""

import gzip
import json
import pathlib
import struct
import sys

FILES = ["ops", "step_celeba", "step_car", "nmr", "nmr_cases", "lemul_flip", "lemul_pairs", "lemul_finetune"]
# Both step files use the same images and the same VGG16, so one copy of the features is enough.
SHARED = ("step_car", "step_celeba", "perc_feat_input")


def read(path):
    raw = path.read_bytes()
    start = 8 + struct.unpack_from("<Q", raw)[0]
    header = json.loads(raw[8:start])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = (entry["dtype"], entry["shape"], raw[start + begin : start + end])
    return metadata, tensors


def planes(data):
    """All first bytes of the four-byte numbers, then all second bytes, and so on: like stands beside like."""
    return b"".join(data[i::4] for i in range(4))


def write(path, metadata, tensors):
    data, entries = bytearray(), {"__metadata__": {**metadata, "byte_planes": "4"}}
    # Large tensors apart from the many small ones: gzip's tables fit the data better.
    for name in sorted(tensors, key=lambda name: (len(tensors[name][2]), name)):
        dtype, shape, raw = tensors[name]
        if dtype != "F32":
            sys.exit(f"{name} is {dtype}, not F32")
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += planes(raw)
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    whole = struct.pack("<Q", len(text)) + text + bytes(data)
    packed = gzip.compress(whole, 9, mtime=0)
    path.write_bytes(packed)
    print(f"{path}: {len(whole)} -> {len(packed)} bytes")


def main(source, target):
    sets = {name: read(source / f"{name}.safetensors") for name in FILES}
    in_file, kept_in, name = SHARED
    if sets[in_file][1][name] == sets[kept_in][1][name]:
        del sets[in_file][1][name]
    for name, (metadata, tensors) in sets.items():
        write(target / f"{name}.planes.gz", metadata, tensors)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    here = pathlib.Path(__file__).parent
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else here)
