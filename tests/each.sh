#!/usr/bin/env bash
# Runs every script of a folder in the order of their names, and closes with the sum of what they counted.
#
# A script closes with a line `N passed, N failed` (`, N skipped`), and fails if a check of it did. One without such
# a line counts as one check; one that failed without naming a failed check counts as one failed.
set -u
folder=${1:?usage: each.sh FOLDER}
passed=0 failed=0 skipped=0
output=$(mktemp)
trap 'rm -f "$output"' EXIT

for script in "$folder"/*; do
  [ -f "$script" ] && [ -x "$script" ] || continue
  printf -- '-- %s\n' "$script"
  start=$SECONDS
  "$script" 2>&1 | tee "$output"
  status=${PIPESTATUS[0]}
  read -r p f s <<<"$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed(, ([0-9]+) skipped)?$/\1 \2 \4/p' "$output" | tail -n 1)"
  if [ "$status" -ne 0 ] && [ "${f:-0}" -eq 0 ]; then f=1; fi
  if [ -z "$p" ]; then p=$((status == 0)); fi
  passed=$((passed + p)) failed=$((failed + ${f:-0})) skipped=$((skipped + ${s:-0}))
  if [ "${f:-0}" -gt 0 ]; then verdict=FAILED; else verdict=ok; fi
  printf -- '-- %s %s: exit status %d after %d s\n' "$verdict" "$script" "$status" $((SECONDS - start))
done

[ $((passed + failed + skipped)) -gt 0 ] || { echo "$folder holds no executable script" >&2; exit 1; }
printf '%d passed, %d failed' "$passed" "$failed"
[ "$skipped" -eq 0 ] || printf ', %d skipped' "$skipped"
printf '\n'
[ "$failed" -eq 0 ]
