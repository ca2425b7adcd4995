# Weights in model-local functions are compressed like others.
model=$MCOMPRESS_FIXTURES/calls.onnx
"$MCOMPRESS" quantize "$model" -o small.onnx --mode weight-only 2>message
grep -q 'compressed 1 of 1 weight' message
(( $(stat -c %s small.onnx) * 2 < $(stat -c %s "$model") ))
# Only some of the functions, by name.
"$MCOMPRESS" optimize "$model" -o some.onnx --functions act --allow-larger 2>message
"$MCOMPRESS" inspect some.onnx --json | grep -q '"functions": 1'
status=0
"$MCOMPRESS" optimize "$model" -o none.onnx --functions akt 2>message || status=$?
[[ $status == 1 && ! -e none.onnx ]]
grep -q "the model has no function 'akt'" message
grep -q "did you mean 'act'" message
# A function with many calls stays, and the weights in it are compressed all the same.
"$MCOMPRESS" quantize "$MCOMPRESS_FIXTURES/many-calls.onnx" -o kept.onnx --mode weight-only --inline-growth 0 2>message
grep -q 'compressed 1 of 1 weight' message
"$MCOMPRESS" inspect kept.onnx --json >kept.json
grep -q '"functions": 1' kept.json
grep -q '"uint8"\|"int8"' kept.json
"$MCOMPRESS" inspect "$MCOMPRESS_FIXTURES/many-calls.onnx" --json >whole.json
grep -q '"function_nodes": 2' whole.json
grep -q '"parameters": 4096' whole.json
# A name that a node has only when its call is written out is a name; others are not.
"$MCOMPRESS" quantize "$model" -o named.onnx --mode weight-only --exclude 'first/inner' --dry-run 2>message || [[ $? == 3 ]]
grep -q "excluded by 'first/inner'" message
status=0
"$MCOMPRESS" quantize "$model" -o named.onnx --mode weight-only --exclude 'second/inner' 2>message || status=$?
[[ $status == 1 && ! -e named.onnx ]]
grep -q "'second/inner' matches no node name" message
