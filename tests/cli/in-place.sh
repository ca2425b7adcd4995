# The output may be the input, and a run that changes nothing copies the file byte for byte.
cp "$MCOMPRESS_MODELS/digits/model.onnx" model.onnx
"$MCOMPRESS" optimize model.onnx -o clean.onnx -q
"$MCOMPRESS" optimize clean.onnx -o same.onnx 2>message
grep -q 'the output is a copy of the input' message
cmp clean.onnx same.onnx
"$MCOMPRESS" quantize model.onnx -o model.onnx --mode weight-only -q
(( $(stat -c %s model.onnx) < 250000 ))
"$MCOMPRESS" compare "$MCOMPRESS_MODELS/digits/model.onnx" model.onnx \
  --data "$MCOMPRESS_MODELS/digits/calib.npz" >/dev/null
[[ $(ls -A) == $'clean.onnx\nmessage\nmodel.onnx\nsame.onnx' ]]
