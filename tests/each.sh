#!/usr/bin/env bash
# Runs every script of a folder, in the order of their names, and fails at the end if one of them did.
set -u
folder=${1:?usage: each.sh FOLDER}
passed=0 failed=0
for script in "$folder"/*; do
  [ -f "$script" ] && [ -x "$script" ] || continue
  printf -- '-- %s\n' "$script"
  if "$script"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED $script" >&2; fi
done
[ $((passed + failed)) -gt 0 ] || { echo "$folder holds no executable script" >&2; exit 1; }
printf 'scripts of %s: %d ended well, %d did not\n' "$folder" "$passed" "$failed"
[ "$failed" -eq 0 ]
