# What cmake/bootstrap.sh installs, by version and SHA-256. A change here (or in python-tools.lock) names a new prefix.

ONNX_VERSION=1.23.2
ONNX_SDIST_SHA256=008cb0467b2bbee41448acc7da8b6f4e704624cb0d327a2d5adafc7ce19bc5b8

ORT_VERSION=1.32.0
ORT_WHEEL_PYTHON=3.11
ORT_WHEEL_PLATFORM=manylinux_2_28_$(uname -m)
case $(uname -m) in
  x86_64) ORT_WHEEL_SHA256=5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d ;;
  aarch64) ORT_WHEEL_SHA256=2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c ;;
  *) ORT_WHEEL_SHA256= ;;
esac

# The C API is stable: headers of 1.21 drive any newer library. The hash is of the sorted list of the files' hashes,
# so that it holds on every architecture.
ORT_HEADERS_PACKAGE=libonnxruntime-dev
ORT_HEADERS_SUITE=trixie
ORT_HEADERS_SHA256=4a19a1408126c4aa31d6912612988abba045481c036312048ee06b93204755af

# Raised when the steps of bootstrap.sh change what the prefix holds.
PREFIX_LAYOUT=2
