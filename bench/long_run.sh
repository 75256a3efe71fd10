#!/usr/bin/env bash
# Whether a long run grows or slows down: resident memory, open files and progress of a command, every ten seconds.
#
#   bench/long_run.sh LOG COMMAND [ARGUMENT...]
#   COUNT='wc -l < runs/tune/log.jsonl' bench/long_run.sh tune.tsv target/release/fewstep tune ... --out runs/tune
#
# LOG gets a line a time: seconds, memory in MB, open files, seconds of the processors, and what COUNT prints (how far the command is; 0
# without it). At the end it says what the first and the last tenth of the lines after the first minute have in the mean, and fails where
# memory or open files have grown by a tenth and more, or the second half took more seconds of the processors for as much by a quarter (clocks
# are another matter where others use the machine, and are shown beside). LIMIT=7200 stops the command after as many seconds by TERM (a shell lets
# INT be ignored in the background); else it takes as long as the command. Linux.
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
  count=$(bash -c "${COUNT:-echo 0}" 2>/dev/null) || count=0
  printf '%d\t%.1f\t%d\t%.1f\t%d\n' "$(($(date +%s) - started))" "$memory" "$files" \
    "$(awk "BEGIN { print $ticks / $(getconf CLK_TCK) }")" "$count" >>"$log"
  if [ "${LIMIT:-0}" -gt 0 ] && [ "$(($(date +%s) - started))" -ge "$LIMIT" ]; then
    kill -TERM "$process"
    LIMIT=0
    stopped=yes
  fi
  sleep 10
done
code=0
wait "$process" || code=$?
trap - EXIT
if [ "$code" -ne 0 ] && [ "${stopped:-no}:$code" != yes:143 ]; then
  echo "the command failed: exit code $code"
  exit "$code"
fi
awk '$1 >= 60' "$log" | awk '
  { seconds[NR] = $1; memory[NR] = $2; files[NR] = $3; busy[NR] = $4; count[NR] = $5 }
  function mean(list, from, to,  sum, at) { for (at = from; at <= to; at++) sum += list[at]; return sum / (to - from + 1) }
  function speed(of, from, to) { return (count[to] - count[from]) / (of[to] - of[from]) }
  END {
    if (NR < 20) { print "too short a run: it takes at least five minutes"; exit 1 }
    tenth = int(NR / 10); last = NR - tenth + 1
    m = mean(memory, 1, tenth); n = mean(memory, last, NR); f = mean(files, 1, tenth); g = mean(files, last, NR)
    printf "memory %.1f MB, then %.1f MB; open files %.1f, then %.1f", m, n, f, g
    slower = 0
    if (count[NR] > 0) {
      half = int(NR / 2)  # halves, as commands tell how far they are in large steps
      s = speed(busy, 1, half); t = speed(busy, half, NR); slower = t < 0.8 * s
      printf "; %.4g a second of the processors in the first half, %.4g in the second", s, t
      printf " (%.4g and %.4g of the clock)", speed(seconds, 1, half), speed(seconds, half, NR)
    }
    print ""
    exit n > 1.1 * m || g > 1.1 * f || slower
  }'
