#!/usr/bin/env bash
# Sets up, configures and builds everything into build/: the program, build/ringtrain, and its
# tests.   scripts/build.sh [--target NAME] [cmake options such as -DRINGTRAIN_CUDA=OFF]
# BUILD_DIR chooses another directory, JOBS the number of compilers at a time.
set -euo pipefail
cd "$(dirname "$0")/.."

target=all
options=()
while [ $# -gt 0 ]; do
  case "$1" in
    --target) target=$2; shift 2 ;;
    *) options+=("$1"); shift ;;
  esac
done
build_dir=${BUILD_DIR:-build}

scripts/setup.sh

# A compiler of the largest files takes up to 2 GiB: no more of them than memory has room for.
cores=$(nproc)
free_kib=$(awk '/^MemAvailable/ {print $2}' /proc/meminfo)
limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)
if [ "$limit" != max ] && [ $((limit / 1024)) -lt "$free_kib" ]; then free_kib=$((limit / 1024)); fi
jobs=$((free_kib / (2 * 1024 * 1024)))
[ "$jobs" -ge 1 ] || jobs=1
[ "$jobs" -le "$cores" ] || jobs=$cores

cmake -S . -B "$build_dir" -G Ninja "${options[@]}"
cmake --build "$build_dir" --target "$target" --parallel "${JOBS:-$jobs}"
