# Models move between operator sets, up and down, with what is nested in them.
opset() { "$MCOMPRESS" inspect "$1" --json | grep -o '"ai.onnx": [0-9]*' | grep -o '[0-9]*$'; }
for to in 9 13 21; do
  "$MCOMPRESS" convert-opset "$MCOMPRESS_FIXTURES/branches.onnx" -o moved.onnx --to $to 2>message
  [[ $(opset moved.onnx) == "$to" ]]
  grep -q '^SQNR of y  *equal' message # compared on made-up inputs
done
# Larger is no error here, and the same bytes come every time.
"$MCOMPRESS" convert-opset "$MCOMPRESS_FIXTURES/grows.onnx" -o one.onnx --to 13 2>message
"$MCOMPRESS" convert-opset "$MCOMPRESS_FIXTURES/grows.onnx" -o two.onnx --to 13 2>message
cmp one.onnx two.onnx
[[ $(opset one.onnx) == 13 ]]
# Where the model is already, it is copied.
"$MCOMPRESS" convert-opset one.onnx -o same.onnx --to 13 2>message
cmp one.onnx same.onnx
grep -q 'nothing to change' message
# What can not move is named, with both versions, the reason and how far the model can go.
status=0
"$MCOMPRESS" convert-opset "$MCOMPRESS_FIXTURES/no-older-form.onnx" -o none.onnx --to 9 2>message || status=$?
[[ $status == 3 && ! -e none.onnx ]]
grep -q "Resize node that makes 'y': Resize can not move from version 13 to opset 9" message
grep -q 'nor can 1 other node' message
grep -q 'opset 11 is within reach' message
# So is an opset that does not exist.
for to in 6 99; do
  status=0
  "$MCOMPRESS" convert-opset one.onnx -o none.onnx --to $to 2>message || status=$?
  [[ $status == 1 && ! -e none.onnx ]]
done
# What the runtime can not run is not proven, and written on request only.
status=0
"$MCOMPRESS" convert-opset "$MCOMPRESS_FIXTURES/custom.onnx" -o none.onnx --to 21 2>message || status=$?
[[ $status == 3 && ! -e none.onnx ]]
"$MCOMPRESS" convert-opset "$MCOMPRESS_FIXTURES/custom.onnx" -o custom.onnx --to 21 --no-verify 2>message
[[ $(opset custom.onnx) == 21 ]]
