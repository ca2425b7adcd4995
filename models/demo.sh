#!/usr/bin/env bash
# Sets everything up, builds the release and runs the main job: a real digit classifier becomes INT8, calibrated with
# 256 images, judged on 2,000 others with their labels. Prints bytes, accuracy and latency before and after.
#   models/demo.sh [OUT.onnx]       (default: build/digits-int8.onnx)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cmake/bootstrap.sh --system
# From nothing, several sources at once take half the time; what is built already stays as it is.
fresh=()
[[ -e build/release/CMakeCache.txt ]] || fresh=(-DMCOMPRESS_UNITY=ON)
cmake --preset release "${fresh[@]}" >/dev/null
cmake --build --preset release --target mcompress_cli
exec build/release/mcompress quantize models/digits/model.onnx -o "${1:-build/digits-int8.onnx}" \
  --calib models/digits/calib.npz --eval models/digits/eval.npz
