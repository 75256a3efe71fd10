#!/usr/bin/env bash
# How many images a second the built-in model makes while other programs want the same cores, by how waiting threads wait.
#
#   bench/busy_machine.sh [busy processes, default as many as there are cores] [rounds, default 5]
#
# fewstep lets waiting threads spin a tenth as long as libgomp's default does, unless the environment says otherwise; "passive" lets
# them sleep at once. Medians over the rounds, whose orders alternate. About a minute; needs target/release/fewstep.
set -euo pipefail

busy=${1:-$(nproc)}
rounds=${2:-5}
fewstep=${FEWSTEP:-$(dirname "$0")/../target/release/fewstep}
unset OMP_WAIT_POLICY GOMP_SPINCOUNT KMP_BLOCKTIME OMP_NUM_THREADS
out=$(mktemp -d)
running=()
cleanup() {
  if [ ${#running[@]} -gt 0 ]; then kill "${running[@]}" 2>/dev/null || true; fi
  rm -rf "$out"
}
trap cleanup EXIT

# name, environment, options
ways=(
  "fewstep as it is||"
  "libgomp's default|GOMP_SPINCOUNT=300000|"
  "passive|OMP_WAIT_POLICY=passive|"
  "one thread||--threads 1"
)

# Images a second of one run, to standard output.
speed() {
  local environment=$1 options=$2
  # shellcheck disable=SC2086 # several words, or none
  env $environment "$fewstep" --json sample fashion-mnist --seeds 0-15 --steps 4 --device cpu --out "$out/images.npz" --overwrite $options \
    2>/dev/null | sed -n 's/.*"samples_per_second": \([0-9.]*\).*/\1/p'
}

median() { sort -n | awk '{ values[NR] = $1 } END { print (values[int((NR + 1) / 2)] + values[int(NR / 2) + 1]) / 2 }'; }

measure() {
  local condition=$1 round way name environment options
  for ((round = 0; round < rounds; round++)); do
    for ((i = 0; i < ${#ways[@]}; i++)); do
      way=$(((i + round) % ${#ways[@]}))
      IFS='|' read -r name environment options <<<"${ways[$way]}"
      speed "$environment" "$options" >>"$out/$condition.$way"
    done
  done
  for way in "${!ways[@]}"; do
    printf '%-20s %-20s %6.1f img/s\n' "$condition" "${ways[$way]%%|*}" "$(median <"$out/$condition.$way")"
  done
}

measure "idle"
for ((i = 0; i < busy; i++)); do
  (while :; do :; done) &
  running+=($!)
done
measure "$busy busy processes"
