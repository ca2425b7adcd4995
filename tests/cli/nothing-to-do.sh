# Doing nothing is said: an error with the reason where compression was asked for, a copy elsewhere.
digits=$MCOMPRESS_MODELS/digits
nothing=$MCOMPRESS_FIXTURES/nothing.onnx
for mode in weight-only dynamic auto; do
  status=0
  "$MCOMPRESS" quantize "$nothing" -o out.onnx --mode "$mode" 2>message || status=$?
  [[ $status == 3 && ! -e out.onnx ]] || { echo "$mode: status $status"; exit 9; }
  grep -q 'nothing was compressed: the model has no float weights' message
  grep -q 'inspect' message
done
status=0
"$MCOMPRESS" quantize "$digits/model.onnx" -o out.onnx --mode weight-only --min-elements 1000000 \
  2>message || status=$?
[[ $status == 3 && ! -e out.onnx ]]
grep -q 'below 1000000' message
status=0
"$MCOMPRESS" quantize "$digits/model.onnx" -o out.onnx --mode weight-only --exclude '*' 2>message || status=$?
[[ $status == 3 && ! -e out.onnx ]]
grep -q "0 of [0-9]* weights eligible; first reason: excluded by '\*'" message
echo '{"passes": ["quantize-weights"]}' >recipe.json
status=0
"$MCOMPRESS" run recipe.json "$nothing" -o out.onnx 2>message || status=$?
[[ $status == 3 && ! -e out.onnx ]]
# Quiet or not, the error itself is printed.
status=0
"$MCOMPRESS" quantize "$nothing" -o out.onnx -q 2>message || status=$?
[[ $status == 3 && $(wc -l <message) == 1 ]]
"$MCOMPRESS" optimize "$nothing" -o same.onnx 2>message
grep -q 'nothing to change' message
cmp "$nothing" same.onnx
"$MCOMPRESS" optimize "$nothing" --dry-run 2>message
grep -q 'nothing to change' message
[[ $(ls -A) == $'message\nrecipe.json\nsame.onnx' ]] || { ls -A; exit 9; }
