"""The table of bench/compare.sh for the detector's network: medians over the rounds in FOLDER/{relievo,detector}-N.json, in
milliseconds, and how many times as long the others take as relievo.

    python table.py FOLDER
"""

import json
import pathlib
import statistics
import sys

SIZES = ["384x256", "1280x800", "1152x1152", "2048x1536"]


def main(folder):
    runs = {}
    for program in ["relievo", "detector"]:
        files = sorted(folder.glob(f"{program}-*.json"))
        if not files:
            sys.exit(f"{folder}: no {program}-*.json")
        runs[program] = [json.loads(path.read_text()) for path in files]
    ours = {size: statistics.median(run[f"detector-{size}"]["seconds"] for run in runs["relievo"]) for size in SIZES}
    print(f"{'CenterFace, one image, f32':36s}" + "".join(f"{size:>18s}" for size in SIZES))
    print(f"{'relievo':36s}" + "".join(f"{1e3 * ours[size]:15.1f} ms" for size in SIZES))
    for name in runs["detector"][0]:
        medians = {size: statistics.median(run[name][size] for run in runs["detector"]) for size in SIZES}
        cells = [f"{1e3 * medians[size]:.1f} ms {medians[size] / ours[size]:.2f}x" for size in SIZES]
        print(f"{name:36s}" + "".join(f"{cell:>18s}" for cell in cells))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
