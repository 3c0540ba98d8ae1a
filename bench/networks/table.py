"""The tables of bench/compare.sh for inference: medians over the rounds in FOLDER/{paper,shipped,inference}-N.json, in
milliseconds, and how many times as long the others take as relievo.

    python table.py FOLDER
"""

import json
import pathlib
import statistics
import sys

SIZES = ["paper", "shipped"]
COUNTS = [1, 16]


def main(folder):
    runs = {}
    for program in [*SIZES, "inference"]:
        files = sorted(folder.glob(f"{program}-*.json"))
        if not files:
            sys.exit(f"{folder}: no {program}-*.json")
        runs[program] = [json.loads(path.read_text()) for path in files]
    columns = [f"{size}-{count}" for size in SIZES for count in COUNTS]
    ours = {
        f"{size}-{count}": statistics.median(run[f"forward-{count}"]["seconds"] for run in runs[size])
        for size in SIZES
        for count in COUNTS
    }
    print(f"{'depth, albedo, light, view; images':38s}" + "".join(f"{column:>18s}" for column in columns))
    print(f"{'relievo':38s}" + "".join(f"{1e3 * ours[column]:15.1f} ms" for column in columns))
    for name in runs["inference"][0]:
        cells = []
        for column in columns:
            times = [run[name][column] for run in runs["inference"] if column in run.get(name, {})]
            median = statistics.median(times) if times else None
            cells.append(f"{1e3 * median:.1f} ms {median / ours[column]:.2f}x" if times else "-")
        print(f"{name:38s}" + "".join(f"{cell:>18s}" for cell in cells))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
