#!/usr/bin/env bash
# Fetches larger real models, by the names of the packages that ship them, and checks each file's SHA-256.
#   models/fetch-models.sh [-o FOLDER] [NAME...]     (default: every model of the table below, into models/fetched)
#   models/fetch-models.sh --list
# Files that are already there and right are kept. Origins and licences: models/README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# name | package | file inside the package | SHA-256 of that file
readonly table='
magika          magika==1.0.3                 magika/models/standard_v3_3/model.onnx                          fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c
silero-vad      silero-vad==6.2.3             silero_vad/data/silero_vad.onnx                                 1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3
silero-vad-16k  silero-vad==6.2.3             silero_vad/data/silero_vad_16k_op15.onnx                        7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49
ppocr-det       rapidocr-onnxruntime==1.4.4   rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx          d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9
ppocr-rec       rapidocr-onnxruntime==1.4.4   rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx          48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b
ppocr-cls       rapidocr-onnxruntime==1.4.4   rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c
ddddocr         ddddocr==1.6.1                ddddocr/common.onnx                                             33b5cd351ee94e73a6bf8fa18c415ed8b819b3ffd342e267c30d8ad8334e34e8
ddddocr-det     ddddocr==1.6.1                ddddocr/common_det.onnx                                         6faa8ea85a8c1a634e5050c4a138fca10f30194e0d7abbe9ade1fcd423af6ed6
'

out=models/fetched
names=()
while (($#)); do
  case $1 in
    -o) out=$2; shift ;;
    --list) awk 'NF {print $1, "(" $2 ")"}' <<<"$table"; exit 0 ;;
    -h|--help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) names+=("$1") ;;
  esac
  shift
done
for name in "${names[@]}"; do
  awk -v n="$name" '$1 == n {found = 1} END {exit !found}' <<<"$table" ||
    { echo "fetch-models: no model '$name'; there are: $(awk 'NF {printf "%s ", $1}' <<<"$table")" >&2; exit 1; }
done

cmake/bootstrap.sh
bin=$(cmake/bootstrap.sh --print-prefix)/venv/bin
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
is_right() { [[ -f $1 && $(sha256sum "$1" | cut -d' ' -f1) == "$2" ]]; }

while read -r name package file sha256; do
  [[ -n $name ]] || continue
  ((${#names[@]} == 0)) || [[ " ${names[*]} " == *" $name "* ]] || continue
  target=$out/$name.onnx
  if ! is_right "$target" "$sha256"; then
    folder=$work/${package%%=*}
    [[ -d $folder ]] || "$bin/pip" --disable-pip-version-check -q download --no-deps --only-binary=:all: -d "$folder" "$package"
    "$bin/python" -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' \
      "$folder"/*.whl "$file" >"$work/model"
    is_right "$work/model" "$sha256" || { echo "fetch-models: $file of $package is not the pinned one" >&2; exit 1; }
    mv "$work/model" "$target"
  fi
  printf '%-16s %9d bytes  %s\n' "$name" "$(stat -c %s "$target")" "$target"
done <<<"$table"
