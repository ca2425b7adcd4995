# Targets are listed, explained and checked; a file of the user's own works like a name.
"$MCOMPRESS" targets >list
for name in onnxruntime-cpu onnxruntime-cpu-vnni onnxruntime-mobile tensorrt openvino npu-int4 generic-qdq; do
  grep -q "^$name " list
  "$MCOMPRESS" targets "$name" >page
  grep -q '^in integers$' page
  "$MCOMPRESS" targets "$name" --json >page.json
  # What is printed is a target file again.
  "$MCOMPRESS" targets --check page.json >checked
  grep -q "target '$name'" checked
done
"$MCOMPRESS" targets onnxruntime-cpu >page
grep -q 'ConvTranspose *has no integer kernel' page
grep -q 'except few-input-channels *slow where it has few input channels' page
grep -q 'DynamicQuantizeLSTM' page
"$MCOMPRESS" targets --json >all.json
grep -q '"name": "tensorrt"' all.json

cat >mine.yaml <<'Y'
extends: onnxruntime-cpu
name: my-board
operators:
  Add: null
Y
"$MCOMPRESS" targets --check mine.yaml >checked
grep -q "target 'my-board', which extends onnxruntime-cpu" checked
"$MCOMPRESS" targets mine.yaml >page
grep -q '^my-board: ' page
digits=$MCOMPRESS_MODELS/digits
"$MCOMPRESS" quantize "$digits/model.onnx" -o mine.onnx --calib "$digits/calib.npz" --target mine.yaml \
  --report mine.json 2>message
grep -q 'planned nodes\? run in integers' message
grep -q 'QLinearAdd' message && exit 9
grep -q '"stayed_float"' mine.json && exit 9
grep -aq 'mcompress.target' mine.onnx
"$MCOMPRESS" quantize "$digits/model.onnx" -o usual.onnx --calib "$digits/calib.npz" --json 2>message >usual.json
grep -q 'QLinearAdd' message
grep -q '"integer"' usual.json

# What is wrong is named with its place; nothing is written.
printf '{\n  "extends": "onnxruntime-cpu", "name": "x",\n  "per-chanel": true\n}\n' >wrong.json
status=0
"$MCOMPRESS" targets --check wrong.json 2>message || status=$?
[[ $status == 1 ]]
grep -q "wrong.json:3:17" message
grep -q "did you mean 'per-channel'" message
status=0
"$MCOMPRESS" quantize "$digits/model.onnx" -o no.onnx --target wrong.json 2>message || status=$?
[[ $status == 1 && ! -e no.onnx ]]
status=0
"$MCOMPRESS" quantize "$digits/model.onnx" -o no.onnx --target onnxruntime-cpuu 2>message || status=$?
[[ $status == 1 ]]
grep -q "did you mean 'onnxruntime-cpu'" message
status=0
"$MCOMPRESS" quantize "$digits/model.onnx" -o no.onnx --target missing.json 2>message || status=$?
[[ $status == 1 ]]
# A target that takes no int8: nothing to do, with the rule.
status=0
"$MCOMPRESS" quantize "$digits/model.onnx" -o no.onnx --target npu-int4 --mode weight-only 2>message || status=$?
[[ $status == 3 && ! -e no.onnx ]]
grep -q 'rule weight-only of npu-int4' message
