#!/usr/bin/env bash
# relievo beside other programs on the same cores in one run: builds relievo, runs all benchmarks alternately and prints
# the medians over the rounds with their ratios.
#
#   bench/compare.sh [ROUNDS] [PART]...     default 3 rounds of all parts; PYTHON=python3 THREADS=2 SECONDS_EACH=8
#
# PART        what                                        beside                                      needs
# networks    all networks, a step; one image             PyTorch                                     bench/pytorch/requirements.txt
# inference   one image and 16, full width and shipped;   PyTorch, ONNX Runtime, OpenVINO, MNN,       bench/networks/requirements.txt
#             first result and memory of a process        ncnn, rten, tract
# detector    the face detector's network                 ONNX Runtime, OpenVINO, MNN                 bench/detector/requirements.txt
# meshes      the mesh renderer                           Mitsuba 3, Open3D                           bench/meshes/README.md
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3}
[ $# -gt 0 ] && shift
parts=${*:-networks inference meshes detector}
python=${PYTHON:-python3}
threads=${THREADS:-2}
seconds=${SECONDS_EACH:-8}
# Settings meant for other libraries must not slow one side down.
for name in $(compgen -e); do
  case $name in OPENBLAS_*|NVPL_*|MKL_*|OMP_*|KMP_*|GOMP_*) unset "$name" ;; esac
done

cargo build --release -p relievo-cli
target=${CARGO_TARGET_DIR:-target}/release
case $parts in *inference*)
  CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target} cargo build --release --locked --manifest-path bench/networks/peers/Cargo.toml ;;
esac
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
case $parts in *meshes*)
  cargo run --quiet --release -p relievo-mesh --example convert -- teapot:6 "$folder/teapot.obj" ;;
esac
relievo() { RAYON_NUM_THREADS=$threads "$target/relievo" bench --json --seconds "$seconds" "$@"; }
# Inference has runs of its own, one for each size of the networks.
own=
for part in networks meshes detector; do
  case $parts in *$part*) own="${own:+$own,}$part" ;; esac
done
for round in $(seq "$rounds"); do
  echo "round $round of $rounds"
  [ -n "$own" ] && relievo --only "$own" > "$folder/relievo-$round.json"
  case $parts in *inference*)
    relievo --only inference > "$folder/paper-$round.json"
    relievo --only inference -m faces > "$folder/shipped-$round.json"
    "$python" -W ignore bench/networks/bench.py --threads "$threads" --seconds "$seconds" --json "$folder/inference-$round.json" \
      --peers "$target/relievo-bench-peers" ;;
  esac
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
case $parts in *inference*)
  "$python" bench/networks/table.py "$folder"
  # A crop of a synthetic head, as a file.
  "$python" -W ignore bench/networks/first.py "$target/relievo" apps/relievo/assets/000007.png --threads "$threads" ;;
esac
case $parts in *meshes*) "$python" bench/meshes/table.py "$folder" ;; esac
case $parts in *detector*) "$python" bench/detector/table.py "$folder" ;; esac
