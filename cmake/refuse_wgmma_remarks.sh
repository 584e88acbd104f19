#!/usr/bin/env bash
# Runs a compiler command and fails where ptxas remarks on wgmma (C75xx: instructions serialised, or
# a warpgroup.arrive injected): it only informs of them, and they cost a kernel half its speed.
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$@" 2> >(tee "$log" >&2)
status=$?
wait
[ "$status" -eq 0 ] || exit "$status"
if grep -q '(C75[0-9][0-9])' "$log"; then
  echo "error: ptxas remarks on wgmma, see above" >&2
  # Without its output the build repeats this step.
  while [ $# -gt 0 ]; do
    [ "$1" != -o ] || rm -f -- "$2"
    shift
  done
  exit 1
fi
