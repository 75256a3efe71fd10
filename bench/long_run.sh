#!/usr/bin/env bash
# Whether a long run grows: resident memory, open files and progress of a command, every ten seconds.
#
#   bench/long_run.sh LOG COMMAND [ARGUMENT...]
#   bench/long_run.sh tune.tsv target/release/fewstep tune ...
#
# LOG gets a line a time: seconds, memory in MB, open files, seconds of the processors. At the end it says what the first and the last tenth of
# the lines after the first minute have in the mean. As long as the command takes; Linux.
set -euo pipefail

log=$1
shift
"$@" &
process=$!
trap 'kill "$process" 2>/dev/null || true' EXIT
started=$(date +%s)
: >"$log"
while kill -0 "$process" 2>/dev/null; do
  memory=$(awk '/^VmRSS/ { print $2 / 1024 }' "/proc/$process/status" 2>/dev/null) || break
  files=$(find "/proc/$process/fd" -mindepth 1 2>/dev/null | wc -l)
  ticks=$(awk '{ print $14 + $15 }' "/proc/$process/stat" 2>/dev/null) || break
  printf '%d\t%.1f\t%d\t%.1f\n' "$(($(date +%s) - started))" "$memory" "$files" \
    "$(awk "BEGIN { print $ticks / $(getconf CLK_TCK) }")" >>"$log"
  sleep 10
done
wait "$process"
trap - EXIT
awk '$1 >= 60' "$log" | awk '
  { memory[NR] = $2; files[NR] = $3 }
  function mean(list, from, to,  sum, at) { for (at = from; at <= to; at++) sum += list[at]; return sum / (to - from + 1) }
  END {
    if (NR < 20) { print "too short a run: it takes at least five minutes"; exit }
    tenth = int(NR / 10)
    printf "memory %.1f MB, then %.1f MB; open files %.1f, then %.1f\n", mean(memory, 1, tenth), mean(memory, NR - tenth + 1, NR), \
      mean(files, 1, tenth), mean(files, NR - tenth + 1, NR)
  }'
