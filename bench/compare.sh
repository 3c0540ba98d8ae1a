#!/usr/bin/env bash
# relievo beside PyTorch on the same cores in one run: builds relievo, runs both benchmarks alternately and prints
# the medians over the rounds with their ratio. Needs the Python packages of bench/pytorch/requirements.txt.
#
#   bench/compare.sh [ROUNDS]       default 3; PYTHON=python3 THREADS=2 SECONDS_EACH=8 may be set
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3}
python=${PYTHON:-python3}
threads=${THREADS:-2}
seconds=${SECONDS_EACH:-8}
# Settings meant for other libraries must not slow one side down.
for name in $(compgen -e); do
  case $name in OPENBLAS_*|NVPL_*|MKL_*|OMP_*|KMP_*|GOMP_*) unset "$name" ;; esac
done

cargo build --release -p relievo-cli
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
for round in $(seq "$rounds"); do
  echo "round $round of $rounds"
  RAYON_NUM_THREADS=$threads target/release/relievo bench --json --seconds "$seconds" > "$folder/relievo-$round.json"
  "$python" bench/pytorch/bench.py --threads "$threads" --seconds "$seconds" --json "$folder/pytorch-$round.json" > /dev/null
done
"$python" bench/pytorch/table.py "$folder"
