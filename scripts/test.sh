#!/usr/bin/env bash
# Sets up, builds, and runs all tests; exits non-zero if one fails. GPU cases skip visibly where
# there is no GPU, and fail there under RINGTRAIN_REQUIRE_GPU=1. Options go to cmake, as in build.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh "$@"
ctest --test-dir "${BUILD_DIR:-build}" --output-on-failure --parallel "$(nproc)"
