"""The table of bench/compare.sh: medians over the rounds in FOLDER/{relievo,pytorch}-N.json, and their ratio.

    python table.py FOLDER
"""

import json
import pathlib
import statistics
import sys

ROWS = [
    ("forward-1", "depth, albedo, light, view; one image"),
    ("step-16", "all five networks; 16 images, forward, backward, Adam"),
]


def main(folder):
    runs = {}
    for program in ["relievo", "pytorch"]:
        files = sorted(folder.glob(f"{program}-*.json"))
        if not files:
            sys.exit(f"{folder}: no {program}-*.json")
        runs[program] = [json.loads(path.read_text()) for path in files]
    if any(run["disturbed"] for run in runs["pytorch"]):
        sys.exit("no table: other programs used the cores (see bench.py), and the ratios would mean nothing")
    layouts = {run[name]["layout"] for run in runs["pytorch"] for name, _ in ROWS}
    print(f"{'':56s} {'relievo':>10s} {'PyTorch':>10s} {'ratio':>7s}")
    for name, what in ROWS:
        ours, theirs = (statistics.median(run[name]["seconds"] for run in runs[p]) for p in ["relievo", "pytorch"])
        print(f"{what:56s} {ours * 1e3:7.1f} ms {theirs * 1e3:7.1f} ms {ours / theirs:7.2f}")
    product = statistics.median(run["matrix-product-gflops"] for run in runs["pytorch"])
    print(f"{'matrix product 2048^3, PyTorch':56s} {'':10s} {product:5.0f} GF/s")
    rounds, version = len(runs["pytorch"]), runs["pytorch"][0]["version"]
    threads = runs["pytorch"][0]["threads"]
    print(f"PyTorch {version}, faster layout of each ({', '.join(sorted(layouts))}); {threads} threads; {rounds} rounds")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
