# A result never takes the place of another file of the same command; only the model itself may be replaced.
digits=$MCOMPRESS_MODELS/digits
cp "$digits/model.onnx" model.onnx
cp "$digits/calib.npz" calib.npz
echo '{"passes": ["quantize-weights"]}' >recipe.json
"$MCOMPRESS" calibrate model.onnx --calib calib.npz --samples 8 -o table.json -q
ln -s model.onnx link.onnx
cksum ./* >../before
refused() {
  local status=0 text
  text=$("$MCOMPRESS" "$@" 2>&1 >/dev/null) || status=$?
  [[ $status == 1 ]] || { echo "status $status: $*: $text"; exit 9; }
  [[ $text == "mcompress: error: "*"overwrite"* ]] || { echo "$text"; exit 9; }
  cksum ./* | cmp - ../before || { echo "changed by $*"; exit 9; }
}
refused quantize model.onnx --mode weight-only -o out.onnx --report out.onnx
refused quantize model.onnx --mode weight-only -o out.onnx --report ./out.onnx
refused quantize model.onnx --mode weight-only -o out.onnx --report model.onnx
refused quantize model.onnx --mode weight-only -o out.onnx --report ../folder/link.onnx
refused quantize model.onnx --mode weight-only --dry-run --report model.onnx
refused quantize model.onnx --calib calib.npz -o calib.npz
refused quantize model.onnx --calib calib.npz -o out.onnx --report calib.npz
refused quantize model.onnx --table table.json -o table.json
refused run recipe.json model.onnx -o recipe.json
refused calibrate model.onnx --calib calib.npz -o model.onnx
refused calibrate model.onnx --calib calib.npz -o calib.npz
# A merged table may take the place of one that went in.
"$MCOMPRESS" calibrate model.onnx --calib "$digits/eval.npz" --samples 8 -o other.json -q
"$MCOMPRESS" calibrate --merge table.json other.json -o table.json -q
grep -q '"samples": 16' table.json
