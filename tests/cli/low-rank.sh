# Thin products and thin tables: what is written, what the data change, refusals, the same bytes.
digits=$MCOMPRESS_MODELS/digits
decoder=$MCOMPRESS_FIXTURES/decoder
size() { stat -c %s "$1"; }

"$MCOMPRESS" factorize "$digits/model.onnx" -o thin.onnx --calib "$digits/calib.npz" --eval "$digits/eval.npz" \
  --keep 0.6 --min-elements 2048 --report thin.json >out 2>messages
grep -q '"what": "rank [0-9]* of [0-9]*"' thin.json
(( $(size thin.onnx) < $(size "$digits/model.onnx") ))
grep -q '^top1  *9[0-9]\.[0-9]* %  *9[0-9]\.' messages
"$MCOMPRESS" factorize "$digits/model.onnx" -o again.onnx --calib "$digits/calib.npz" --keep 0.6 --min-elements 2048 \
  --jobs 3 --threads 2 >out 2>messages
cmp thin.onnx again.onnx

# Data choose other factors than the weight alone would.
"$MCOMPRESS" factorize "$digits/model.onnx" -o blind.onnx --keep 0.6 --min-elements 2048 >out 2>messages
status=0
cmp -s thin.onnx blind.onnx || status=$?
[[ $status == 1 ]]

# Nothing gives: exit 3. A gate that is missed: exit 5. Nothing is written.
status=0
"$MCOMPRESS" factorize "$digits/model.onnx" -o none.onnx --calib "$digits/calib.npz" --layer-sqnr 150 >out 2>messages || status=$?
[[ $status == 3 && ! -e none.onnx ]]
grep -q 'nothing was compressed' messages
status=0
"$MCOMPRESS" factorize "$digits/model.onnx" -o none.onnx --calib "$digits/calib.npz" --keep 0.1 --min-elements 2048 \
  --min-sqnr 60 >out 2>messages || status=$?
[[ $status == 5 && ! -e none.onnx ]]

# A table: by what is looked up, or blindly.
"$MCOMPRESS" tables "$decoder/model.onnx" -o unused.onnx --calib "$decoder/rows.npz" --tables rows --unused merge \
  --min-elements 64 --report unused.json >out 2>messages || { cat messages; exit 1; }
grep -q 'were never looked up on the data' unused.json
"$MCOMPRESS" compare "$decoder/model.onnx" unused.onnx --data "$decoder/rows.npz" >out 2>messages
grep -q '^logits *1[0-9][0-9]\.[0-9] dB' out || { cat out; exit 1; }
for form in hash binary; do
  "$MCOMPRESS" tables "$decoder/model.onnx" -o "$form.onnx" --tables $form --min-elements 64 >out 2>messages ||
    { cat messages; exit 1; }
  (( $(size $form.onnx) < $(size "$decoder/model.onnx") ))
done
status=0
"$MCOMPRESS" tables "$decoder/model.onnx" -o none.onnx --tables rows --unused merge >out 2>messages || status=$?
[[ $status == 1 && ! -e none.onnx ]]
grep -q 'which rows are unused is known from data only' messages
