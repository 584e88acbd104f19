#!/usr/bin/env bash
# Installs what building and testing ringtrain needs and this machine lacks, with apt (Debian 12,
# Ubuntu 24.04 or later). CUDA and NCCL are not among it: where nvcc is found they are used.
# Exits 0 without asking for rights where nothing is missing.
set -euo pipefail

missing=()
# What is wanted: a command that shows it is there, or an installed package, then the package.
need_command() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need_package() {
  [ "$(dpkg-query -W -f='${Status}' "$1" 2>/dev/null)" = "install ok installed" ] || missing+=("$1")
}

if ! command -v dpkg-query >/dev/null 2>&1; then
  echo "setup: no dpkg here; see the table of dependencies in README.md if the build misses one" >&2
  exit 0
fi

need_command c++ build-essential
need_command cmake cmake
need_command ninja ninja-build
need_command ccache ccache
need_command clang-format clang-format
need_command python3 python3
if [ -z "${MPI_HOME:-}" ]; then  # otherwise the build takes MPI from there
  need_command mpirun openmpi-bin
  need_package libopenmpi-dev
fi
for package in libsentencepiece-dev nlohmann-json3-dev libcli11-dev libfmt-dev libopenblas-dev \
  libgtest-dev; do
  need_package "$package"
done

[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null 2>&1; then
    echo "setup: missing packages: ${missing[*]}" >&2
    echo "setup: this user may not install them and there is no sudo; ask an administrator for" >&2
    echo "setup:   apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${missing[@]}"
