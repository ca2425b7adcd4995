# What can not be written is status 4; what was there is still there.
model=$MCOMPRESS_MODELS/digits/model.onnx
try() {
  local status=0 text
  text=$("$MCOMPRESS" "$@" 2>&1 >/dev/null) || status=$?
  [[ $status == 4 ]] || { echo "status $status: $*: $text"; exit 9; }
  [[ $text == *"mcompress: error: "* ]] || { echo "$text"; exit 9; }
}
quantize=(quantize "$model" --mode weight-only -q -o)
try "${quantize[@]}" no/such/folder.onnx
mkdir folder
try "${quantize[@]}" folder
try "${quantize[@]}" out.onnx --report no/such/report.json
[[ ! -e out.onnx ]]
if [[ $(id -u) != 0 ]]; then  # root may write anywhere
  chmod a-w folder
  try "${quantize[@]}" folder/out.onnx
  chmod u+w folder
fi
if [[ -d /proc/self ]]; then  # but not even root here
  try "${quantize[@]}" /proc/out.onnx
  try calibrate "$model" --calib "$MCOMPRESS_MODELS/digits/calib.npz" --samples 4 -o /proc/table.json
fi
# A file size limit stands for a full disk.
echo precious >kept.onnx
status=0
(ulimit -f 64; "$MCOMPRESS" "${quantize[@]}" kept.onnx 2>message) || status=$?
[[ $status == 4 ]] || { echo "limit: status $status"; cat message; exit 9; }
[[ $(<kept.onnx) == precious ]]
[[ $(ls -A) == $'folder\nkept.onnx\nmessage' ]] || { ls -A; exit 9; }
