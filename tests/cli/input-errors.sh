# What can not be read is status 2 and leaves nothing behind.
model=$MCOMPRESS_MODELS/digits/model.onnx
mkdir work && cd work
try() {
  local status=0 text
  text=$("$MCOMPRESS" "$@" 2>&1 >/dev/null) || status=$?
  [[ $status == 2 ]] || { echo "status $status: $*: $text"; exit 9; }
  [[ $(wc -l <<<"$text") == 1 && $text == "mcompress: error: "* ]] || { echo "$text"; exit 9; }
}
try quantize missing.onnx -o out.onnx
try inspect .
for bytes in 0 1 100 5000 300000 695484; do
  head -c "$bytes" "$model" >../short.onnx
  try inspect ../short.onnx
  try quantize ../short.onnx -o out.onnx --mode weight-only
done
try quantize "$model" -o out.onnx --mode static --calib missing.npz
try quantize "$model" -o out.onnx --mode static --calib "$model"
try quantize "$model" -o out.onnx --mode static --table "$model"
try eval "$model" --data missing.npz
[[ -z $(ls -A) ]]
