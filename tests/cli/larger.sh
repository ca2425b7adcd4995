# A result larger than the input is refused, unless asked for.
grows=$MCOMPRESS_FIXTURES/grows.onnx
echo '{"passes": ["raise-opset"]}' >recipe.json
echo precious >out.onnx
status=0
"$MCOMPRESS" run recipe.json "$grows" -o out.onnx 2>message || status=$?
[[ $status == 4 ]]
grep -q 'allow-larger' message
[[ $(<out.onnx) == precious ]]
"$MCOMPRESS" run recipe.json "$grows" -o out.onnx --allow-larger -q
(( $(stat -c %s out.onnx) > $(stat -c %s "$grows") ))
"$MCOMPRESS" inspect out.onnx | grep -q 'ai.onnx 13'
[[ $(ls -A) == $'message\nout.onnx\nrecipe.json' ]]
# The provenance that was asked for does not make a result too large.
plain=$MCOMPRESS_FIXTURES/plain.onnx
"$MCOMPRESS" optimize "$plain" -o plain.onnx -q
(( $(stat -c %s plain.onnx) > $(stat -c %s "$plain") ))
"$MCOMPRESS" optimize "$plain" -o plain.onnx -q --no-provenance
(( $(stat -c %s plain.onnx) < $(stat -c %s "$plain") ))
