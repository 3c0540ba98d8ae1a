#!/usr/bin/env bash
# relievo beside other programs on the same cores in one run: builds relievo, runs all benchmarks alternately and prints
# the medians over the rounds with their ratios. Beside PyTorch (the networks; bench/pytorch/requirements.txt), beside
# Mitsuba 3 and Open3D (meshes; bench/meshes/README.md), and beside ONNX Runtime and OpenVINO (the face detector's network;
# bench/detector/requirements.txt).
#
#   bench/compare.sh [ROUNDS] [networks|meshes|detector]...     default 3 rounds of all; PYTHON=python3 THREADS=2 SECONDS_EACH=8
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3}
[ $# -gt 0 ] && shift
parts=${*:-networks meshes detector}
python=${PYTHON:-python3}
threads=${THREADS:-2}
seconds=${SECONDS_EACH:-8}
# Settings meant for other libraries must not slow one side down.
for name in $(compgen -e); do
  case $name in OPENBLAS_*|NVPL_*|MKL_*|OMP_*|KMP_*|GOMP_*) unset "$name" ;; esac
done

cargo build --release -p relievo-cli
target=${CARGO_TARGET_DIR:-target}/release
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
case $parts in *meshes*)
  cargo run --quiet --release -p relievo-mesh --example convert -- teapot:6 "$folder/teapot.obj" ;;
esac
for round in $(seq "$rounds"); do
  echo "round $round of $rounds"
  RAYON_NUM_THREADS=$threads "$target/relievo" bench --json --only "${parts// /,}" --seconds "$seconds" \
    > "$folder/relievo-$round.json"
  case $parts in *networks*)
    "$python" bench/pytorch/bench.py --threads "$threads" --seconds "$seconds" --json "$folder/pytorch-$round.json" > /dev/null ;;
  esac
  case $parts in *meshes*)
    "$python" bench/meshes/bench.py "$folder/teapot.obj" --threads "$threads" --seconds "$seconds" --json "$folder/meshes-$round.json" ;;
  esac
  case $parts in *detector*)
    "$python" bench/detector/bench.py --threads "$threads" --seconds "$seconds" --json "$folder/detector-$round.json" ;;
  esac
done
case $parts in *networks*) "$python" bench/pytorch/table.py "$folder" ;; esac
case $parts in *meshes*) "$python" bench/meshes/table.py "$folder" ;; esac
case $parts in *detector*) "$python" bench/detector/table.py "$folder" ;; esac
