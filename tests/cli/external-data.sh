# Weights beside the model: the pair is written as one, read from anywhere, and stays a pair.
digits=$MCOMPRESS_MODELS/digits
"$MCOMPRESS" optimize "$digits/model.onnx" -o clean.onnx -q
mkdir pair
"$MCOMPRESS" optimize "$digits/model.onnx" -o pair/model.onnx --external-data always -q
[[ $(ls -A pair | wc -l) == 2 ]] || { ls -A pair; exit 9; }
(( $(stat -c %s pair/model.onnx) < 50000 ))
"$MCOMPRESS" compare clean.onnx pair/model.onnx --data "$digits/calib.npz" --samples 4 | grep -q equal
# What was a pair stays one; asked for, it becomes one file.
mkdir small one
"$MCOMPRESS" quantize pair/model.onnx -o small/model.onnx --mode weight-only -q
[[ $(ls -A small | wc -l) == 2 ]]
"$MCOMPRESS" quantize pair/model.onnx -o one/model.onnx --mode weight-only --external-data never -q
[[ $(ls -A one) == model.onnx ]]
"$MCOMPRESS" compare small/model.onnx one/model.onnx --data "$digits/calib.npz" --samples 4 | grep -q equal
# Without its other half a model is unreadable, and a failure leaves both halves alone.
cksum pair/* >before
status=0
(ulimit -f 64; "$MCOMPRESS" quantize clean.onnx -o pair/model.onnx --mode weight-only --external-data always \
  -q 2>message) || status=$?
[[ $status == 4 ]]
cksum pair/* | cmp - before
[[ $(ls -A pair | wc -l) == 2 ]]
cp pair/model.onnx alone.onnx
status=0
"$MCOMPRESS" inspect alone.onnx 2>message >/dev/null || status=$?
[[ $status == 2 ]]
grep -q 'model.onnx.data: .*can not be opened' message
