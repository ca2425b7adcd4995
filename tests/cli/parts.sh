# Recipes of several models: shares of bytes and quality, all results or none, every mistake with its place.
digits=$MCOMPRESS_MODELS/digits
mkdir -p in/enc
cp "$digits/model.onnx" in/enc/model.onnx
"$MCOMPRESS" convert-opset "$digits/model.onnx" -o in/decoder-v2.onnx --to 19 -q
"$MCOMPRESS" optimize "$digits/model.onnx" -o in/joiner.onnx --external-data always -q
cp "$digits/calib.npz" "$digits/eval.npz" in/
size() { cat "$@" | wc -c; }
whole=$(size in/enc/model.onnx in/decoder-v2.onnx in/joiner.onnx in/joiner.onnx.data)

# Passes, data and names of each part; the result is that of each run by itself.
cat >in/product.yaml <<'YAML'
version: 1
name: speech
parts:
  - name: encoder
    model: enc/model.onnx
    recipe: server-int8
    data: {calib: calib.npz, eval: eval.npz}
  - name: decoder
    model: "decoder-*.onnx"
    passes: [lift-constants, infer-shapes, quantize-weights]
  - name: joiner
    model: joiner.onnx
    recipe: quantize-weight-only
    output: join/small.onnx
YAML
"$MCOMPRESS" run in/product.yaml -o out --report product.json 2>log
[[ $(cd out && find . -type f | sort | tr '\n' ' ') == \
  "./decoder-v2.onnx ./enc/model.onnx ./join/small.onnx ./join/small.onnx.data " ]]
"$MCOMPRESS" run server-int8 in/enc/model.onnx -o alone.onnx --calib in/calib.npz -q
cmp alone.onnx out/enc/model.onnx
grep -q '^part encoder: server-int8' log
grep -Eq '^all +[0-9,]+ +[0-9,]+ +[0-9.]+ x' log
[[ $(grep -c '"schema": "mcompress-report"' product.json) == 3 ]]
grep -q "\"bytes\": $whole" product.json
grep -q "\"bytes\": $(size out/enc/model.onnx out/decoder-v2.onnx out/join/*)" product.json

# The same from elsewhere, from a folder that is named, in JSON, and from what --print-recipe prints.
mkdir away && cp in/product.yaml away/ && cp in/*.npz away/
"$MCOMPRESS" run away/product.yaml in -o named --json -q >named.json
cmp named.json product.json
diff -r out named
"$MCOMPRESS" run in/product.yaml --print-recipe >printed.json 2>/dev/null
mv printed.json away/
"$MCOMPRESS" run away/printed.json -o printed -q
diff -r out printed

# One page of all.
"$MCOMPRESS" report product.json -o page.html -q
for name in encoder decoder joiner; do grep -q ">$name<" page.html; done
grep -q '<h1>speech</h1>' page.html
"$MCOMPRESS" report product.json --json >page.json
grep -q '"batch": true' page.json

# --dry-run writes nothing.
"$MCOMPRESS" run in/product.yaml --dry-run --json >dry.json 2>log
grep -q '"dry_run": true' dry.json
"$MCOMPRESS" run in/product.yaml --dry-run -o planned -q 2>/dev/null
[[ ! -e planned ]]

# What is left of the bytes decides between several recipes.
limited() {  # MAX-BYTES: the recipe that was taken
  cat >in/limited.yaml <<YAML
gates: {max-bytes: $1}
parts:
  - {name: fixed, model: decoder-v2.onnx, recipe: quantize-weight-only}
  - {name: free, model: enc/model.onnx, recipe: [optimize, quantize-weight-only]}
YAML
  "$MCOMPRESS" run in/limited.yaml -o "limited-$1" --report limited.json -q || return
  grep -B 1 '"max_bytes"' limited.json | tail -n 2 | head -n 1
}
"$MCOMPRESS" run quantize-weight-only in/decoder-v2.onnx -o small.onnx -q
small=$(size small.onnx)
large=$(size in/enc/model.onnx)
[[ $(limited $((small + large + 20000))) == *optimize* ]]
grep -q '"tried": \[\]' limited.json
[[ $(limited $((small * 2 + 20000))) == *quantize-weight-only* ]]
grep -q 'and max-bytes allows' limited.json

# Limits that are missed: status 5, nothing anywhere, or all with --write-missed.
missed() {  # TEXT FLAGS...
  local status=0 text=$1
  shift
  "$MCOMPRESS" run in/missed.yaml -o missed "$@" 2>message || status=$?
  [[ $status == 5 ]] && grep -q "$text" message || { cat message; exit 9; }
}
printf 'gates: {max-bytes: 10kB}\nparts:\n  - {name: a, model: decoder-v2.onnx, recipe: optimize}\n  - {name: b, model: enc/model.onnx, recipe: optimize}\n' >in/missed.yaml
missed 'all may have 10000'
[[ ! -e missed && -z $(find . -name '*.tmp') ]]
missed 'all may have 10000' --write-missed
[[ -e missed/decoder-v2.onnx && -e missed/enc/model.onnx ]]
rm -r missed
printf 'gates: {max-bytes: 1MB}\nparts:\n  - {name: a, model: decoder-v2.onnx, recipe: optimize}\n  - {name: b, model: enc/model.onnx, recipe: optimize, bytes-share: 0.01}\n' >in/missed.yaml
missed 'part b: the result has'
[[ ! -e missed ]]
# Half the powers of errors each are 3 dB more for each.
printf 'gates: {min-sqnr: 90}\nparts:\n  - {name: a, model: enc/model.onnx, recipe: server-int8, data: {calib: calib.npz}}\n  - {name: b, model: decoder-v2.onnx, recipe: optimize, data: {calib: calib.npz}}\n' >in/missed.yaml
missed 'asks for 93.0 dB'

# A part that fails leaves what was there as it was.
mkdir kept && echo old >kept/decoder-v2.onnx
printf 'parts:\n  - {name: a, model: decoder-v2.onnx, recipe: optimize}\n  - {name: b, model: enc/model.onnx, recipe: quantize-static}\n' >in/fails.yaml
status=0
"$MCOMPRESS" run in/fails.yaml -o kept 2>message || status=$?
[[ $status == 1 || $status == 3 ]]
[[ $(ls -A kept) == decoder-v2.onnx && $(<kept/decoder-v2.onnx) == old ]]
# In place.
cp -r in place
"$MCOMPRESS" run place/product.yaml -o place -q
cmp place/enc/model.onnx out/enc/model.onnx

refused() {  # STATUS TEXT RECIPE FLAGS...
  local expected=$1 text=$2 status=0
  printf '%b' "$3" >in/wrong.yaml
  shift 3
  "$MCOMPRESS" run in/wrong.yaml "$@" -o wrong 2>message || status=$?
  [[ $status == "$expected" && ! -e wrong && $(wc -l <message) == 1 ]] && grep -qF -- "$text" message ||
    { echo "$status, not $expected: $text"; cat message; exit 9; }
}
one='{name: a, model: enc/model.onnx, recipe: optimize}'
refused 1 "wrong.yaml:2:10: part: unknown key 'part' (did you mean 'parts'?)" "parts: [$one]\npart:    {}\n"
refused 1 "wrong.yaml:1:39: parts[0].recpe: unknown key 'recpe' (did you mean 'recipe'?)" \
  'parts: [{name: a, model: none, recpe: optimize}]\n'
refused 1 "did you mean 'optimize'" 'parts: [{name: a, model: none, recipe: optimise}]\n'
refused 1 "did you mean 'max-bytes'" "gates: {max-byte: 3}\nparts: [$one]\n"
refused 1 "did you mean 'calib'" 'parts: [{name: a, model: none, recipe: optimize, data: {calb: x}}]\n'
refused 1 "did you mean 'fuse-batchnorm'" 'parts: [{name: a, model: none, passes: [fuse-batchnrm]}]\n'
refused 1 "needs either 'recipe' or 'passes'" 'parts: [{name: a, model: none}]\n'
refused 1 "the key 'model' is missing" 'parts: [{name: a, recipe: optimize}]\n'
refused 1 "there is a part 'a' already" "parts: [$one, $one]\n"
refused 1 "parts: must be a list" 'parts: []\n'
refused 1 "is a share of nothing" 'parts: [{name: a, model: none, recipe: optimize, bytes-share: 0.5}]\n'
refused 1 "the shares sum up to 1.2" 'gates: {max-bytes: 1MB}
parts:
  - {name: a, model: none, recipe: optimize, bytes-share: 0.6}
  - {name: b, model: none, recipe: optimize, bytes-share: 0.6}\n'
refused 1 "nothing is left for it" 'gates: {max-bytes: 1MB}
parts:
  - {name: a, model: none, recipe: optimize, bytes-share: 1}
  - {name: b, model: none, recipe: optimize}\n'
refused 1 "above 0, up to 1" 'gates: {max-bytes: 1MB}\nparts: [{name: a, model: none, recipe: optimize, bytes-share: 1.5}]\n'
refused 1 "there are no data to judge" 'gates: {max-drop: 1}\nparts: [{name: a, model: none, recipe: optimize}]\n'
refused 1 "is a recipe of several models" 'parts: [{name: a, model: enc/model.onnx, recipe: wrong.yaml}]\n'
refused 1 "must be a file below the folder" 'parts: [{name: a, model: none, recipe: optimize, output: ../x.onnx}]\n'
refused 1 "would both become enc/model.onnx" \
  'parts:\n  - {name: a, model: enc/model.onnx, recipe: optimize}\n  - {name: b, model: enc/model.onnx, recipe: optimize}\n'
refused 2 "there is no model 'in/none.onnx'" 'parts: [{name: a, model: none.onnx, recipe: optimize}]\n'
refused 2 "no file fits 'in/none-*.onnx'" 'parts: [{name: a, model: "none-*.onnx", recipe: optimize}]\n'
refused 2 "fit 'in/*.onnx'" 'parts: [{name: a, model: "*.onnx", recipe: optimize}]\n'
refused 2 "there is no 'in/none.npz'" 'parts: [{name: a, model: enc/model.onnx, recipe: optimize, data: {calib: none.npz}}]\n'
refused 1 "write it under 'data' of a part" "parts: [$one]\n" --calib in/calib.npz
refused 1 "is no folder" "parts: [$one]\n" in/joiner.onnx
for command in "batch in" "plan"; do
  status=0
  # shellcheck disable=SC2086
  case $command in
    plan) "$MCOMPRESS" plan in/product.yaml in/joiner.onnx -o plan.yaml 2>message || status=$? ;;
    *) "$MCOMPRESS" $command in/product.yaml -o batched 2>message || status=$? ;;
  esac
  [[ $status == 1 ]] && grep -q '`mcompress run` takes it' message
done
status=0
"$MCOMPRESS" run in/product.yaml -o - 2>message || status=$?
[[ $status == 1 ]] && grep -q 'standard output' message
status=0
"$MCOMPRESS" run server-int8 2>message || status=$?
[[ $status == 1 ]] && grep -q 'MODEL is required' message
# The example is complete but for its models.
status=0
"$MCOMPRESS" run "$MCOMPRESS_MODELS/../docs/examples/parts/speech.yaml" in -o wrong 2>message || status=$?
[[ $status == 2 ]] && grep -q "no file fits 'in/encoder-\*.onnx'" message
# Stopped at any moment: all is there, or nothing, not even the folders.
mkdir stopped
for delay in 0.02 0.05 0.1 0.2 0.4 0.8; do
  status=0
  timeout --preserve-status -s INT "$delay" "$MCOMPRESS" run in/product.yaml -o stopped/out -q 2>message || status=$?
  [[ $status == 130 || $status == 0 ]] || { echo "status $status after $delay s"; exit 9; }
  if [[ -e stopped/out ]]; then diff -r out stopped/out; fi
  rm -rf stopped/out
  [[ -z $(ls -A stopped) ]] || { ls -AR stopped; exit 9; }
done
