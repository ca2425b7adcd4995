# Recipes of the user's own: JSON or YAML, the same bytes; every mistake is status 1, named with its place.
digits=$MCOMPRESS_MODELS/digits
cat >recipe.yaml <<'YAML'
name: mine
passes:
  - lift-constants
  - infer-shapes
  - fuse-batchnorm
  - pass: quantize-weights
    scheme: symmetric     # nothing else
    exclude: [Gemm]
  - eliminate-dead
YAML
cat >recipe.json <<'JSON'
{"name": "mine", "passes": ["lift-constants", "infer-shapes", "fuse-batchnorm",
 {"pass": "quantize-weights", "exclude": ["Gemm"], "scheme": "symmetric"}, "eliminate-dead"]}
JSON
"$MCOMPRESS" run recipe.yaml "$digits/model.onnx" -o yaml.onnx -q
"$MCOMPRESS" run recipe.json "$digits/model.onnx" -o json.onnx -q
cmp yaml.onnx json.onnx
"$MCOMPRESS" run recipe.yaml "$digits/model.onnx" --print-recipe >printed.json
grep -q '"min-elements": 256' printed.json
"$MCOMPRESS" run printed.json "$digits/model.onnx" -o printed.onnx -q
cmp yaml.onnx printed.onnx
# Static quantization in a recipe takes its data from the command line.
echo '{"passes": ["lift-constants", "infer-shapes", "raise-opset", "fold-constants", "fuse-batchnorm",
  "quantize-static", "eliminate-dead"]}' >static.json
"$MCOMPRESS" run static.json "$digits/model.onnx" -o static.onnx --calib "$digits/calib.npz" -q

rm ./*.onnx
refused() {  # TEXT RECIPE
  local expected=$1 status=0 text
  printf '%s' "$2" >wrong.yaml
  text=$("$MCOMPRESS" run wrong.yaml "$digits/model.onnx" -o out.onnx 2>&1 >/dev/null) || status=$?
  [[ $status == 1 && ! -e out.onnx ]] || { echo "status $status: $text"; exit 9; }
  [[ $(wc -l <<<"$text") == 1 && $text == "mcompress: error: "*"$expected"* ]] ||
    { echo "without '$expected': $text"; exit 9; }
}
refused "wrong.yaml:1:10: passes[0]: unknown pass 'fuse-batchnrm' (did you mean 'fuse-batchnorm'?)" \
  'passes: [fuse-batchnrm]'
refused "wrong.yaml:3:18: passes[0].min-elemnts: unknown option 'min-elemnts' (did you mean 'min-elements'?)" \
  $'passes:\n  - pass: quantize-weights\n    min-elemnts: 4\n'
refused "wrong.yaml:3:19: passes[0].min-elements: 0 is below 1" \
  $'passes:\n  - pass: quantize-weights\n    min-elements: 0\n'
# Entries are counted as the file has them, whatever those before them stand for.
refused "wrong.yaml:3:44: passes[1].min-elements: 0 is below 1" \
  $'passes:\n  - recipe: optimize\n  - {pass: quantize-weights, min-elements: 0}\n'
refused "has to run after lift-constants" 'passes: [infer-shapes, fold-constants, lift-constants]'
refused "wrong.yaml:1:9: target: unknown target 'generic-qd'" $'target: generic-qd\npasses: [lift-constants]\n'
refused "wrong.yaml:1" 'passes: [lift-constants'
refused "wrong.yaml" ''
refused "static quantization needs calibration data" 'passes: [quantize-static]'
status=0
"$MCOMPRESS" run missing.yaml "$digits/model.onnx" -o out.onnx 2>message || status=$?
[[ $status == 1 ]] && grep -q missing.yaml message

# A key much like the one that is missing.
printf 'version: 1\npasses:\n  - pas: quantize-weights\n' >near.yaml
status=0
"$MCOMPRESS" run near.yaml "$MCOMPRESS_MODELS/digits/model.onnx" -o near.onnx 2>message || status=$?
[[ $status == 1 && ! -e near.onnx ]]
grep -q "near.yaml:3:5: passes\[0\]: the key 'pass' is missing (unknown key 'pas': did you mean 'pass'?)" message
