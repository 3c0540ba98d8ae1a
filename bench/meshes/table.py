"""The table of bench/compare.sh for meshes: medians over the rounds in FOLDER/{relievo,meshes}-N.json, in milliseconds, and
how many times as long the others take as relievo does for the same.

    python table.py FOLDER
"""

import json
import pathlib
import statistics
import sys

OURS = [
    ("mesh-forward", "relievo, silhouette", "forward"),
    ("mesh-fit", "relievo, silhouette, fit", "both"),
    ("mesh-dense", "relievo, silhouette, any gradient", "both"),
    ("mesh-colour", "relievo, colour, any gradient", "both"),
]


def main(folder):
    runs = {}
    for program in ["relievo", "meshes"]:
        files = sorted(folder.glob(f"{program}-*.json"))
        if not files:
            sys.exit(f"{folder}: no {program}-*.json")
        runs[program] = [json.loads(path.read_text()) for path in files]
    ours = {key: statistics.median(run[key]["seconds"] for run in runs["relievo"]) for key, _, _ in OURS}
    base = {"forward": ours["mesh-forward"], "both": ours["mesh-dense"]}
    print(f"{'teapot of 2,256 faces, 256x256':44s} {'forward':>10s} {'with gradient':>14s}")
    for key, name, part in OURS:
        cells = [f"{1e3 * ours[key]:7.2f} ms" if part == which else "" for which in ["forward", "both"]]
        print(f"{name:44s} {cells[0]:>10s} {cells[1]:>14s}")
    for name in runs["meshes"][0]:
        medians = {part: statistics.median(run[name][part] for run in runs["meshes"]) for part in runs["meshes"][0][name]}
        cells = [f"{1e3 * medians[part]:7.1f} ms" if part in medians else "" for part in ["forward", "both"]]
        ratios = ", ".join(f"{medians[part] / base[part]:.0f}x {part}" for part in medians)
        print(f"{name:44s} {cells[0]:>10s} {cells[1]:>14s}   {ratios}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
