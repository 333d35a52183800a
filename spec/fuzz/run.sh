#!/bin/sh
# Runs one harness from a seed: run.sh HARNESS SECONDS SEED. Shows what it found, and how to repeat it.
set -u
harness=$1 seconds=$2 seed=$3
name=$(basename "$harness")
found=$harness-found log=$harness.log dictionary=spec/fuzz/$name.dict

rm -f "$found"
# Leaks are looked for at the end: after each input is too slow, for Lua frees when it will.
set -- -max_total_time="$seconds" -seed="$seed" -max_len=256 -timeout=60 -detect_leaks=0 -print_final_stats=1 -exact_artifact_path="$found"
[ ! -f "$dictionary" ] || set -- -dict="$dictionary" "$@"
if "$harness" "$@" >"$log" 2>&1; then
  awk -v name="$name" '$1 == "stat::number_of_executed_units:" { count = $2 }
    $1 == "stat::average_exec_per_sec:" { rate = $2 }
    END { printf "fuzz %s: %d inputs, %d a second; all is well\n", name, count, rate; exit count == 0 }' "$log"
  exit
fi
grep -E '^broken:|ERROR:|runtime error:|^SUMMARY:| #[0-9]+ .*/(src|spec/fuzz)/' "$log" | head -n 20 >&2
if [ -f "$found" ]; then
  printf 'fuzz %s: the seed %s has found this input:\n' "$name" "$seed" >&2
  od -An -v -tx1 "$found" >&2
  printf 'To repeat it: %s %s\n' "$harness" "$found" >&2
else
  printf 'fuzz %s: it failed after all inputs; to repeat it: make fuzz HARNESSES=%s SEED=%s\n' "$name" "$name" "$seed" >&2
fi
printf 'All that was said: %s\n' "$log" >&2
exit 1
