# What differs between two models.
digits=$MCOMPRESS_MODELS/digits
model=$digits/model.onnx
"$MCOMPRESS" diff "$model" "$model" --exit-code >text
grep -q ' are identical: 48 nodes$' text
"$MCOMPRESS" quantize "$model" -o int8.onnx --calib "$digits/calib.npz" -q
"$MCOMPRESS" diff "$model" int8.onnx >text
grep -q '^  Conv ' text
grep -q 'type float32 -> int8, through DequantizeLinear' text
grep -q '^  BatchNormalization ' text
grep -q 'metadata mcompress.version: none -> ' text
status=0
"$MCOMPRESS" diff "$model" int8.onnx --exit-code >same 2>message || status=$?
[[ $status == 5 ]] || { echo "status $status"; exit 9; }
cmp text same
grep -q 'the models differ' message
"$MCOMPRESS" diff "$model" int8.onnx --json >one.json
"$MCOMPRESS" diff "$model" int8.onnx --json >again.json
cmp one.json again.json
grep -q '"identical": false' one.json
# Everything has its partner: 13 convolutions and a product stay, whatever is around them.
[[ $(grep -c '"sqnr_db": ' one.json) -ge 14 ]]
sed -n '/"nodes_removed"/,/"nodes_added"/p' one.json | grep -q '"operator": "Conv"' && exit 9
for file in "$MCOMPRESS_FIXTURES"/*.onnx; do
  "$MCOMPRESS" diff "$file" "$file" --exit-code | grep -q identical || { echo "$file"; exit 9; }
done
status=0
"$MCOMPRESS" diff "$model" missing.onnx 2>message || status=$?
[[ $status == 2 ]]
grep -q missing.onnx message
