#!/usr/bin/env bash
# Counts the instructions of ten hot paths (crates/relievo/examples/instructions.rs) under Valgrind, on one thread with AVX2,
# and fails where one differs from bench/instructions.txt by more than 1 %. What is meant to differ is written there by
#
#   bench/instructions.sh --update
#
# Counts do not depend on what else the machine does, but on the compiler. Valgrind shows every program the same processor; that
# counts are the same on all has yet to be seen. So with another compiler or processor than the file names, differences are
# printed and fail nothing. Valgrind's own tool does this, because the runner of a framework for it (gungraun) takes longer
# to build than everything that is counted.
set -euo pipefail
cd "$(dirname "$0")/.."
counts=bench/instructions.txt

if ! command -v valgrind > /dev/null || ! grep -qw avx2 /proc/cpuinfo; then
  echo "skipped: instructions are counted by Valgrind on a processor with AVX2"
  exit 0
fi
cargo build --quiet --release --locked -p relievo --example instructions
program=${CARGO_TARGET_DIR:-target}/release/examples/instructions
# glibc chooses how it copies by the sizes of caches; fixed, so that all machines count the same.
export GLIBC_TUNABLES=glibc.cpu.x86_non_temporal_threshold=0xc0000:glibc.cpu.x86_rep_movsb_threshold=0x2000

count() {
  valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file=/dev/null "$program" "$1" "$2" 2>&1 |
    sed -n 's/.*I *refs: *//p' | tr -d ,
}
# A repetition of path $1.
measure() { echo "$1 $(($(count "$1" 2) - $(count "$1" 1)))"; }
export -f count measure
export program
measured=$("$program" | xargs -P "$(nproc)" -I {} bash -c 'measure {}' | sort)

processor=$(awk -F ': ' '/^vendor_id/ { v = $2 } /^cpu family/ { f = $2 } /^model\t/ { m = $2 } END { print v, f "/" m }' /proc/cpuinfo)
where="$(rustc --version), $processor"
if [ "${1-}" = --update ]; then
  { echo "# $where; written by bench/instructions.sh --update"; echo "$measured"; } > "$counts"
fi
same=true
grep -qF "# $where;" "$counts" || same=false
# Unless compiler or processor is another one, fails with status 1 after all rows.
awk -v same="$same" '
  /^#/ { next }
  NR == FNR { before[$1] = $2; next }
  !($1 in before) { printf "%-28s %13d  new: bench/instructions.sh --update\n", $1, $2; bad = 1; next }
  {
    change = 100 * ($2 / before[$1] - 1)
    off = change > 1 || change < -1
    printf "%-28s %13d %+8.2f %%%s\n", $1, $2, change, off ? "  more than 1 %" : ""
    bad = bad || off
  }
  END { exit bad && same == "true" }
' "$counts" <(echo "$measured") || {
  echo "if this is meant: bench/instructions.sh --update"
  exit 1
}
"$same" || echo "fails nothing: $counts was written with $(head -n 1 "$counts" | cut -d';' -f1 | cut -c3-), this is $where"
