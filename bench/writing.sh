#!/usr/bin/env bash
# How many images a second `sample` writes: the mixture, whose evaluation costs next to nothing, into a folder of PNGs and into an npz.
#
#   bench/writing.sh [images, default 10000] [rounds, default 3]
#
# Images of 32x32 in grey, one evaluation each, by one thread: these are too small to share, and PNGs are packed by all processors
# anyway. What is written is waited for, so that the disk counts: FOLDER says where to (default: the system's temporary folder). Medians
# over the rounds. Seconds; needs target/release/fewstep.
set -euo pipefail

images=${1:-10000}
rounds=${2:-3}
fewstep=${FEWSTEP:-$(dirname "$0")/../target/release/fewstep}
out=$(mktemp -d -p "${FOLDER:-${TMPDIR:-/tmp}}")
trap 'rm -rf "$out"' EXIT

# Images a second of one run, to standard output.
speed() {
  "$fewstep" --json sample gaussian-mixture --seeds "0-$((images - 1))" --solver euler --steps 1 --device cpu --threads 1 --out "$1" \
    2>/dev/null | sed -n 's/.*"samples_per_second": \([0-9.]*\).*/\1/p'
}

median() { sort -n | awk '{ values[NR] = $1 } END { print (values[int((NR + 1) / 2)] + values[int(NR / 2) + 1]) / 2 }'; }

for ((round = 0; round < rounds; round++)); do
  speed "$out/folder-$round" >>"$out/of-folder"
  speed "$out/images-$round.npz" >>"$out/of-npz"
done
printf 'a folder of PNGs %8.0f images/s\n' "$(median <"$out/of-folder")"
printf 'an npz file      %8.0f images/s\n' "$(median <"$out/of-npz")"
