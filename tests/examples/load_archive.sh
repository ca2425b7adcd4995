#!/usr/bin/env bash
# load_archive.sh cpp|python MCOMPRESS EXAMPLE LIBRARY: the example of that language loads archives of a model in one file
# and of one with a data file, and gets the outputs of the unpacked model; a damaged archive ends in a message.
# Exit status 77: python3 has no onnxruntime. $PYTHON names another python3.
set -eu
language=$1 mcompress=$(realpath "$2") example=$(realpath "$3") library=$(realpath "$4")
source=$(realpath "$(dirname "$0")/../..")
python=${PYTHON:-python3}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

case $language in
  cpp) load() { "$example" "$@"; } ;;
  python)
    "$python" -c 'import numpy, onnxruntime' 2>/dev/null || exit 77
    load() { "$python" "$source/docs/examples/load_archive.py" "$library" "$@"; }
    ;;
esac

check() {  # MODEL: packs it, moves the archive away from all other files and loads it
  "$mcompress" pack "$1" -o packed.mca --allow-larger -q
  mkdir alone
  mv packed.mca alone/
  "$mcompress" unpack alone/packed.mca -o unpacked.onnx -q
  (cd alone && load packed.mca ../unpacked.onnx) | tee said
  grep -qx 'same as the unpacked model' said
  mv alone/packed.mca .
  rmdir alone
}

check "$source/models/digits/model.onnx"
"$mcompress" optimize "$source/models/digits/model.onnx" -o outside.onnx --external-data always -q
test -s outside.onnx.data
check outside.onnx
"$mcompress" quantize "$source/models/digits/model.onnx" --calib "$source/models/digits/calib.npz" -o int8.onnx -q
check int8.onnx

size=$(stat -c %s packed.mca)
head -c $((size / 2)) packed.mca >cut.mca
if load cut.mca 2>message; then
  echo "half an archive was loaded" >&2
  exit 1
fi
cat message
grep -q 'cut.mca' message
