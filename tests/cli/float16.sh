# Weights in floats of fewer bits, and arithmetic in 16 of them.
digits=$MCOMPRESS_MODELS/digits
before=$(stat -c %s "$digits/model.onnx")
for weights in float16 bfloat16 float8 float8e5m2; do
  "$MCOMPRESS" quantize "$digits/model.onnx" -o "$weights.onnx" --weights "$weights" \
    --eval "$digits/eval.npz" --report report.json 2>message
  grep -q 'SQNR of logits' message
  grep -q '"mode": "weight-only"' report.json
  "$MCOMPRESS" quantize "$digits/model.onnx" -o again.onnx --weights "$weights" --jobs 3 -q 2>message
  cmp "$weights.onnx" again.onnx
done
(( $(stat -c %s float16.onnx) * 18 < before * 10 ))
(( $(stat -c %s float8.onnx) * 3 < before ))
# A second run finds nothing left: status 3, no output.
status=0
"$MCOMPRESS" quantize float16.onnx -o twice.onnx --weights float16 2>message || status=$?
[[ $status == 3 && ! -e twice.onnx ]]
# The default target computes faster in float32: weights alone, and it says so.
"$MCOMPRESS" quantize "$digits/model.onnx" -o mode.onnx --mode float16 2>message
grep -q 'the arithmetic stays float32: onnxruntime-cpu' message
# Asked for, and where a target gains by it: with data, values that do not fit would stay.
"$MCOMPRESS" quantize "$digits/model.onnx" -o compute.onnx --mode float16 --form compute \
  --calib "$digits/calib.npz" --report report.json 2>message
grep -q 'warning: .*no float16 kernels' message
grep -q 'SQNR of logits' message
grep -q '"converted"' report.json
"$MCOMPRESS" inspect compute.onnx --dump >dump
grep -q 'logits.*float32' dump
"$MCOMPRESS" quantize "$digits/model.onnx" -o gpu.onnx --mode float16 --target tensorrt -q 2>message
"$MCOMPRESS" quantize "$digits/model.onnx" -o whole.onnx --mode float16 --target tensorrt \
  --no-keep-io -q 2>message
"$MCOMPRESS" inspect whole.onnx --dump >dump
grep -q 'logits.*float16' dump
# What can not be.
status=0
"$MCOMPRESS" quantize "$digits/model.onnx" -o no.onnx --mode bfloat16 --form compute 2>message || status=$?
[[ $status == 3 && ! -e no.onnx ]]
grep -q 'no bfloat16 kernel' message
status=0
"$MCOMPRESS" quantize "$digits/model.onnx" -o no.onnx --weights float8 --form compute 2>message || status=$?
[[ $status == 1 ]]
grep -q '8-bit floats are for storage' message
status=0
"$MCOMPRESS" quantize "$digits/model.onnx" -o no.onnx --mode float16 --weights float8 2>message || status=$?
[[ $status == 1 ]]
status=0
"$MCOMPRESS" quantize "$digits/model.onnx" -o no.onnx --weights float8 --target tensorrt 2>message || status=$?
[[ $status == 3 ]]
grep -q 'rule low-float/storage of tensorrt' message
