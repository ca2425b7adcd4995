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
