# Weights in the branches of an If are compressed like others, and patterns find them.
model=$MCOMPRESS_FIXTURES/branches.onnx
before=$(stat -c %s "$model")
"$MCOMPRESS" quantize "$model" -o all.onnx --report all.json 2>message
grep -q 'compressed 4 of 4 weights' message
(( $(stat -c %s all.onnx) * 2 < before ))
for weight in outer left back right; do
  grep -A3 "\"subject\": \"$weight\"" all.json | grep -q '"applied": true' || { echo "$weight"; exit 9; }
done
"$MCOMPRESS" quantize "$model" -o some.onnx --mode weight-only --exclude right --report some.json 2>message
grep -q 'compressed 3 of 4 weights' message
grep -q "excluded by 'right'" message
status=0
"$MCOMPRESS" quantize "$model" -o none.onnx --mode weight-only --include 'rihgt' 2>message || status=$?
[[ $status == 1 && ! -e none.onnx ]]
grep -q "'rihgt' matches no node name, operator type or tensor of the model (nearest: 'right'" message
# One pattern without a match is enough.
status=0
"$MCOMPRESS" quantize "$model" -o none.onnx --mode weight-only --include 'left,lfet' 2>message || status=$?
[[ $status == 1 && ! -e none.onnx ]]
grep -q "'lfet'" message
