#!/usr/bin/env bash
# Sets everything up, builds the preset and runs every test:
#   tests/run.sh [PRESET] [ctest argument...]       tests/run.sh release -L fast
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=release
if [[ ${1:-} =~ ^[a-z]+$ ]]; then preset=$1; shift; fi
cmake/bootstrap.sh --system
# From nothing, several sources at once take half the time; what is built already stays as it is.
fresh=()
[[ $preset != release || -e build/release/CMakeCache.txt ]] || fresh=(-DMCOMPRESS_UNITY=ON)
cmake --preset "$preset" "${fresh[@]}" >/dev/null
cmake --build --preset "$preset"
exec ctest --test-dir "build/$preset" --output-on-failure -j "$(nproc)" "$@"
