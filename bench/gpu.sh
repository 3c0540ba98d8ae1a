#!/usr/bin/env bash
# All tests and measurements that need a real GPU, on a machine that has only the driver, cuDNN 9 and NVRTC (Python packages
# will do): no Rust, no network, other paths than here.
#
#   bench/gpu.sh pack FOLDER                              here: builds, and copies everything the other machine needs
#   FOLDER/gpu.sh run FOLDER [STAGE|all]                  there: runs it, and prints one table
#
# Stages: check (tests), bench, train (synthetic heads in each precision, with each seed, and with narrow networks), images
# (photographs, if there are any), tables (the paper's, some hours).
#
# Results are in FOLDER/out. A call ends within LIMIT seconds and prints the results so far; the next one skips finished parts
# and resumes trainings. Variables (default):
#
#   DEVICE (cuda:0)
#   LIMIT (570): seconds of a call
#   SECONDS_EACH (5): seconds of a measurement of `relievo bench`
#   STEPS (20000), SEEDS ("1 2"), PRECISIONS ("bf16 f32"), TRAIN (further options of `relievo train`): the trainings
#   NARROW: options that make networks as narrow as those in the program; empty skips them
#   IMAGES: shards or folders of framed photographs (`relievo crop`)
#   LEARN: options of the training on them, which starts from the first model of `train`
#   TABLE_STEPS (20000), TABLE_SEEDS (0,1,2; ablation and perturbation use the first only), TABLES: the tables
#   BENCH: further options of `relievo bench`
#   ASSETS: the folder `assets` of a checkout on the other machine; if set for `pack`, it is not copied (11 MiB)
#   HEADS (1000): unseen heads for `relievo eval`
#   EMULATOR: folder of the CUDA emulator's libraries (target/cuda-emulator/*), to try this script without a GPU
set -uo pipefail

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 2; }
fail() { echo "gpu.sh: $*" >&2; exit 1; }

# Test executables that take RELIEVO_DEVICE, and the words that tests of them must have in their names to be run there.
TESTS="relievo-tensor.devices relievo-tensor.kernels relievo-render.devices relievo-render.kernels relievo-nets.devices
  relievo-mesh.devices relievo-mesh.kernels relievo-mesh.reference:gpu
  relievo-check.gpu relievo-check.step:gpu relievo-check.ops:gpu"

pack() {
  local folder=$1 here artifacts test package kind program
  mkdir -p "$folder" && folder=$(cd "$folder" && pwd) || fail "cannot make $folder"
  [ ! -e "$folder/out" ] || fail "$folder/out holds results: move it away, or pack into another folder"
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) && cd "$here" || exit 1
  set -e
  # Without the weights, a third of the size: nothing there needs them.
  program=$(cargo build --release --locked -p relievo-cli --no-default-features --features cuda --message-format=json |
    sed -n 's|.*"name":"relievo".*"executable":"\([^"]*\)".*|\1|p')
  [ -f "$program" ] || fail "cargo built no program"
  rm -rf "$folder/bin" "$folder/assets"
  mkdir -p "$folder/bin"
  cp "$program" "$folder/bin/relievo"
  # Restores the program here.
  cargo build --release --locked -p relievo-cli
  artifacts=$(cargo test --release --locked --no-run --message-format=json \
    -p relievo-tensor -p relievo-render -p relievo-mesh -p relievo-nets -p relievo-check \
    --test devices --test kernels --test reference --test gpu --test step --test ops)
  for test in $TESTS; do
    test=${test%%:*} package=${test%%.*} kind=${test#*.}
    program=$(sed -n "s|.*/$package#.*\"kind\":\[\"test\"\].*\"name\":\"$kind\".*\"executable\":\"\([^\"]*\)\".*|\1|p" <<<"$artifacts")
    [ -f "$program" ] || fail "cargo built no test $kind of $package"
    cp "$program" "$folder/bin/$test"
  done
  ! command -v strip >/dev/null || strip "$folder"/bin/*
  # xz finds the parts that the programs share: less than half of gzip's size.
  rm -f "$folder"/bin.tar.*
  if command -v xz >/dev/null; then
    XZ_OPT=-9e tar -C "$folder" -cJf "$folder/bin.tar.xz" bin
  else
    tar -C "$folder" -czf "$folder/bin.tar.gz" bin
  fi
  rm -r "$folder/bin"
  if [ -z "${ASSETS:-}" ]; then
    mkdir -p "$folder/assets/golden"
    cp assets/golden/*.gz assets/golden/*.safetensors "$folder/assets/golden/"
  fi
  cp bench/gpu.sh "$folder/gpu.sh"
  git describe --always --dirty >"$folder/version" 2>/dev/null || echo unknown >"$folder/version"
  echo "packed $(du -sm "$folder" | cut -f1) MiB: $folder/gpu.sh run $folder"
}

# The folder of the first library of that name in the system, LD_LIBRARY_PATH or Python's packages.
find_library() {
  local name=$1 given=${LD_LIBRARY_PATH:-} folder
  folder=$(ldconfig -p 2>/dev/null | sed -n "s|.*=> \(.*\)/$name[.0-9]*$|\1|p" | head -1)
  [ -n "$folder" ] && { echo "$folder"; return; }
  for folder in ${given//:/ } /usr/local/nvidia/lib64 /usr/local/cuda*/lib64 /usr/lib/*-linux-gnu $python_folders; do
    compgen -G "$folder/$name*" >/dev/null && { echo "$folder"; return; }
  done
}

find_libraries() {
  local packages name found environment
  python_folders=$({
    for python in python3 python; do
      "$python" -c 'import site, sys; print("\n".join(sys.path + site.getsitepackages() + [site.getusersitepackages()]))'
    done
    for environment in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}" /opt/* /opt/*/.venv ~/.venv ~/*conda3 /usr/local; do
      [ -z "$environment" ] || compgen -G "$environment/lib/python3*/*-packages"
    done
  } 2>/dev/null | sort -u | while read -r packages; do compgen -G "$packages/nvidia/*/lib"; done)
  for name in libcuda.so libcudnn.so.9 libnvrtc.so; do
    found=$(find_library "$name")
    echo "$name: ${found:-not found}"
    [ -z "$found" ] || case ":${LD_LIBRARY_PATH:-}:" in *":$found:"*) ;; *) folders+=("$found") ;; esac
  done
  # The libraries that those open (cuBLAS, the parts of cuDNN).
  for found in $python_folders; do folders+=("$found"); done
  for found in ${folders[@]+"${folders[@]}"}; do LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$found; done
  export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}
}

left() { echo $((deadline - SECONDS)); }

# Runs a command in the time left, `most` seconds at most: relievo saves a training when interrupted.
limited() {
  local most=$1 seconds
  shift
  seconds=$(left)
  [ "$seconds" -lt "$most" ] || seconds=$most
  [ "$seconds" -gt 0 ] || return 124
  if [ -n "${EMULATOR:-}" ]; then
    timeout -s INT -k 20 "$seconds" env LD_PRELOAD="$EMULATOR/libcuda.so $EMULATOR/libnvrtc.so $EMULATOR/libcudnn.so" "$@"
  else
    timeout -s INT -k 20 "$seconds" "$@"
  fi
}

check() {
  local entry program word test began status log
  mkdir -p "$out/check"
  touch "$out/check/results"
  # cuDNN's refusals, with reasons.
  export CUDNN_LOGLEVEL_DBG=2 CUDNN_LOGDEST_DBG=$out/check/cudnn.log
  for entry in $TESTS; do
    program=${entry%%:*} word=${entry#"$program"} word=${word#:}
    for test in $(limited 60 "$folder/bin/$program" --list 2>/dev/null | sed -n 's/: test$//p' | grep -- "$word"); do
      if grep -q "^passed $program $test " "$out/check/results"; then continue; fi
      [ "$(left)" -gt 0 ] || return
      log=$out/check/$program.$test.log
      began=$(date +%s.%N)
      limited 300 "$folder/bin/$program" --exact "$test" --nocapture >"$log" 2>&1
      status=$?
      case $status in 0) status=passed ;; 124 | 137) status=cut-off ;; *) status=failed ;; esac
      ! grep -q '^skipped:' "$log" || status=skipped
      sed -i "/ $program $test /d" "$out/check/results"
      printf '%s %s %s %.1f\n' $status "$program" "$test" "$(awk "BEGIN { print $(date +%s.%N) - $began }")" |
        tee -a "$out/check/results"
    done
  done
  unset CUDNN_LOGLEVEL_DBG CUDNN_LOGDEST_DBG
}

bench() {
  local name options
  mkdir -p "$out/bench"
  for name in bf16 tf32 f32 bf16-deterministic; do
    [ ! -s "$out/bench/$name.json" ] && [ "$(left)" -gt 0 ] || continue
    options="--precision ${name%-deterministic}"
    case $name in *-deterministic) options="$options --deterministic true" ;; esac
    echo "bench $name"
    # shellcheck disable=SC2086
    limited 300 "$folder/bin/relievo" bench --device "$DEVICE" --seconds "$SECONDS_EACH" --json $options ${BENCH:-} \
      >"$out/bench/$name.part" 2>"$out/bench/$name.log" && mv "$out/bench/$name.part" "$out/bench/$name.json" ||
      tail -3 "$out/bench/$name.log"
  done
}

# Trains the run `name` and measures it on unseen heads. Options of `relievo train` follow the precision.
learn() {
  local name=$1 precision=$2 run=$out/train/$1 began
  shift 2
  # More steps than before: resume.
  [ "$(cat "$run.steps" 2>/dev/null)" = "$STEPS" ] || rm -f "$run.steps" "$run.json"
  [ ! -s "$run.json" ] && [ "$(left)" -gt 0 ] || return
  echo "train $name"
  mkdir -p "$out/train"
  if [ ! -e "$run.steps" ]; then
    if [ -e "$run/settings.toml" ]; then
      set -- --resume "$run"
    else
      set -- --out "$run" --device "$DEVICE" --precision "$precision" "$@"
    fi
    began=$SECONDS
    limited 3600 "$folder/bin/relievo" train "$@" --steps "$STEPS" --checkpoint-minutes 2 >>"$run.log" 2>&1
    echo "  $((SECONDS - began)) s: $(tail -1 "$run.log")"
    if tail -1 "$run.log" | grep -q "^$STEPS steps done"; then echo "$STEPS" >"$run.steps"; else return; fi
  fi
  limited 300 "$folder/bin/relievo" eval -m "$run" --seed 1000 --count "$HEADS" --device "$DEVICE" \
    --precision "$precision" --json "$run.part" >"$run.eval.log" 2>&1 && mv "$run.part" "$run.json" ||
    tail -3 "$run.eval.log"
}

train() {
  local seed precision
  # shellcheck disable=SC2086
  for seed in $SEEDS; do
    for precision in $PRECISIONS; do
      learn "$precision-seed-$seed" "$precision" --seed "$seed" --preview-images 0 $TRAIN
    done
    [ -z "$NARROW" ] || learn "narrow-seed-$seed" "$first" --seed "$seed" --preview-images 0 $TRAIN $NARROW
  done
}

images() {
  local begins=$out/train/$first-seed-${SEEDS%% *} run=$out/train/photographs
  [ -n "${IMAGES:-}" ] || return
  [ -e "$begins.steps" ] || { echo "images: wants $begins, which is not done: train first"; return; }
  # shellcheck disable=SC2086
  learn photographs "$first" $IMAGES synthetic --initial-weights "$begins/model.safetensors" $LEARN
  [ -s "$run.json" ] && [ ! -s "$run.held-out.json" ] && [ "$(left)" -gt 0 ] || return
  # shellcheck disable=SC2086
  limited 300 "$folder/bin/relievo" eval $IMAGES synthetic -m "$run" --held-out --device "$DEVICE" --precision "$first" \
    --json "$run.part" >"$run.held-out.log" 2>&1 && mv "$run.part" "$run.held-out.json" || tail -3 "$run.held-out.log"
}

tables() {
  local table seeds
  mkdir -p "$out/tables"
  for table in comparison ablation perturbation; do
    [ "$(left)" -gt 0 ] || return
    [ $table = comparison ] && seeds=$TABLE_SEEDS || seeds=${TABLE_SEEDS%%,*}
    echo "table $table"
    # shellcheck disable=SC2086
    limited 36000 "$folder/bin/relievo" reproduce $table --device "$DEVICE" --precision "$first" --steps "$TABLE_STEPS" --seeds "$seeds" \
      -o "$out/tables" $TABLES >>"$out/tables/$table.log" 2>&1 || tail -3 "$out/tables/$table.log"
  done
}

# The number in a JSON file with one key a line, after all these keys in order.
number() {
  local file=$1
  shift
  [ -s "$file" ] && awk -v path="$*" '
    BEGIN { n = split(path, keys, " "); i = 1 }
    index($0, "\"" keys[i] "\":") { if (i == n) { sub(/.*: */, ""); sub(/,.*/, ""); print; exit } i++ }' "$file"
}

# A line of the table: label, number (or nothing), format, target.
line() {
  local value=-
  [ -z "$2" ] || value=$(awk "BEGIN { printf \"$3\", $2 }")
  printf '%-46s %14s   %s\n' "$1" "$value" "${4:-}"
}

table() {
  local name file found run seed precision steps results=$out/check/results
  trap - EXIT
  {
    printf '\nrelievo %s on %s, %s\n' "$(cat "$folder/version")" "$gpu" "$(date -u '+%Y-%m-%d %H:%M UTC')"
    printf '%-46s %14s   %s\n' "" measured "target, then goal"
    [ ! -e "$results" ] || for name in passed failed cut-off skipped; do
      line "checks $name" "$(grep -c "^$name " "$results")" '%d' "$([ $name != failed ] || echo 0)"
    done
    [ ! -e "$results" ] || sed -n 's/^\(failed\|cut-off\) /  \1: /p' "$results"
    for name in bf16 tf32 f32 bf16-deterministic; do
      file=$out/bench/$name.json
      found=$(number "$file" training-64 seconds)
      line "$name: training step of 64, ms" "${found:+1000 * $found}" '%.2f' "$([ $name != bf16 ] || echo '15, 8')"
      found=$(number "$file" predict-256 seconds)
      line "$name: images/s, 256 at a time" "${found:+$(number "$file" predict-256 images) / $found}" '%.0f' "$([ $name != bf16 ] || echo '20000, 60000')"
      found=$(number "$file" predict-256-fetched seconds)
      line "$name: the same, results fetched" "${found:+256 / $found}" '%.0f'
      found=$(number "$file" pool-peak-bytes)
      line "$name: GPU memory of training, GiB" "${found:+$found / 1073741824}" '%.2f' "$([ $name != bf16 ] || echo '2.5, 1.5')"
    done
    file=$out/bench/bf16.json
    for name in mesh-fit mesh-dense mesh-colour mesh-colour-16; do
      found=$(number "$file" $name seconds)
      line "$name, forward and backward, ms" "${found:+1000 * $found}" '%.2f'
    done
    found=$(number "$file" feed-rendered-64 seconds)
    line "images/s fed, heads as rendered" "${found:+64 / $found}" '%.0f'
    found=$(number "$file" feed-cached-64 seconds)
    line "images/s fed from memory" "${found:+64 / $found}" '%.0f' '64 / training step'
    for seed in $SEEDS; do
      for precision in $PRECISIONS; do
        name="$precision-seed-$seed" run=$out/train/$precision-seed-$seed.json
        steps=$(cat "${run%.json}.steps" 2>/dev/null || echo "$STEPS")
        found=$(number "$run" visible model depth-error mean)
        line "$name: SIDE x 100 after $steps steps" "${found:+100 * $found}" '%.3f' 'the same in all, within noise'
        line "$name: MAD, degrees" "$(number "$run" visible model normal-error mean)" '%.2f' 'likewise'
      done
    done
    for run in "$out"/train/narrow-seed-*.json "$out"/train/photographs.json; do
      [ -s "$run" ] || continue
      name=$(basename "$run" .json)
      found=$(number "$run" visible model depth-error mean)
      line "$name: SIDE x 100" "${found:+100 * $found}" '%.3f'
      line "$name: MAD, degrees" "$(number "$run" visible model normal-error mean)" '%.2f'
    done
    file=$out/train/photographs.held-out.json
    [ ! -s "$file" ] || line "photographs held out: error, colours -1 to 1" "$(number "$file" reconstruction)" '%.3f'
    run=$out/train/$first-seed-${SEEDS%% *}.json
    found=$(number "$run" visible constant-depth depth-error mean)
    line "constant depth: SIDE x 100" "${found:+100 * $found}" '%.3f'
    line "constant depth: MAD, degrees" "$(number "$run" visible constant-depth normal-error mean)" '%.2f'
    [ ! -e "$out/tables/results.md" ] || cat "$out/tables/results.md"
    [ "$(left)" -gt 0 ] || echo "the time was up: call again for the rest"
  } | tee "$out/table.txt"
}

# Python may have xz if the system does not.
unpack() {
  tar -C "$folder" -xmf "$1" 2>/dev/null ||
    python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$1" "$folder" || return
  touch "$folder/bin/relievo"
}

run() {
  local stage=${2:-all} packed info
  folder=$(cd "$1" 2>/dev/null && pwd) || fail "there is no folder $1"
  packed=$(compgen -G "$folder/bin.tar.*" | head -1)
  [ -n "$packed" ] || fail "$folder was not packed: bench/gpu.sh pack $folder"
  [ "$folder/bin/relievo" -nt "$packed" ] || unpack "$packed" || fail "neither tar nor Python can unpack $packed"
  case $stage in check | bench | train | images | tables | all) ;; *) usage ;; esac
  : "${DEVICE:=cuda:0}" "${LIMIT:=570}" "${SECONDS_EACH:=5}" "${STEPS:=20000}" "${SEEDS:=1 2}" "${PRECISIONS:=bf16 f32}" "${HEADS:=1000}"
  # As in recipes/heads-on-two-cores.toml, but with the paper's networks and losses: from the paper's start, noses point
  # outwards only after more steps than these trainings have.
  : "${TRAIN=--preset synthetic-face --synthetic-count 50000 --validation 256 --validate-steps 5000 --initial-depth-scale 0.1 --dome 0.7 --smoothness-weight 0.5 --pixel-centre 0}"
  : "${NARROW=--width 16 --code 64 --encoder-width 16}"
  # As in recipes/faces-from-photographs.toml, but with the paper's networks, batch size and learning rate.
  : "${LEARN=--preset face --synthetic-count 6000 --validation 256 --validate-steps 5000 --preview-steps 5000 --roll 12 --jitter 0.03 --initial-depth-scale 0.1 --dome 0.7 --smoothness-weight 0.5 --pixel-centre 0}"
  : "${TABLE_STEPS:=20000}" "${TABLE_SEEDS:=0,1,2}" "${TABLES=}"
  first=${PRECISIONS%% *}
  deadline=$((SECONDS + LIMIT)) out=$folder/out folders=()
  mkdir -p "$out"
  export RELIEVO_DEVICE=$DEVICE RELIEVO_ASSETS=$(cd "${ASSETS:-$folder/assets}" && pwd) XDG_CACHE_HOME=$out/cache
  if [ -n "${EMULATOR:-}" ]; then
    EMULATOR=$(cd "$EMULATOR" && pwd) || exit 1
    gpu="the emulator"
  else
    find_libraries
    gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1)
    gpu=${gpu:-unknown GPU}
  fi
  trap table EXIT
  trap 'exit 130' INT TERM
  info=$(limited 60 "$folder/bin/relievo" info) || fail "the program does not run here"
  echo "$info"
  if ! grep -q "^$DEVICE " <<<"$info"; then
    # The program names the missing library.
    limited 60 "$folder/bin/relievo" bench --device "$DEVICE" --seconds 0 >/dev/null
    fail "$DEVICE cannot be used"
  fi
  if [ "$stage" != all ]; then "$stage"; else check; bench; train; images; tables; fi
}

case "${1:-}:$#" in
  pack:2) pack "$2" ;;
  run:2 | run:3) run "$2" "${3:-all}" ;;
  *) usage ;;
esac
