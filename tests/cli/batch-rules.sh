# Recipes by rules: the first that fits, by path and by what a model holds.
digits=$MCOMPRESS_MODELS/digits/model.onnx
mkdir -p zoo/keep zoo/llm rules
cp "$digits" zoo/cnn.onnx
cp "$digits" zoo/llm/net.onnx
cp "$digits" zoo/keep/asis.onnx
head -c 1000 "$digits" >zoo/broken.onnx
cat >rules/own.json <<'END'
{"passes": ["eliminate-identity"]}
END
cat >rules/rules.yaml <<'END'
version: 1
rules:
  - when: {path: "keep/*"}
    skip: true
  - when: {path: "llm/*", has-op: [Attention]}
    recipe: llm-int4
  - when: {path: "llm/*", bytes-above: 1kB}
    recipe: own.json
  - when: {has-op: [Conv], bytes-below: 100MB}
    recipe: smallest-file
END
status=0
"$MCOMPRESS" batch zoo rules/rules.yaml -o out --json >lines 2>message || status=$?
[[ $status == 2 && $(wc -l <lines) == 3 ]]
grep '"job": "cnn.onnx"' lines | grep '"status": 0' | grep -q '"recipe": "smallest-file"'
grep '"job": "llm/net.onnx"' lines | grep '"status": 0' | grep -q '"recipe": "rules/own.json"'
grep '"job": "broken.onnx"' lines | grep -q '"status": 2'
[[ ! -e out/keep ]]
"$MCOMPRESS" run smallest-file zoo/cnn.onnx -o one.onnx -q
cmp one.onnx out/cnn.onnx
"$MCOMPRESS" run rules/own.json zoo/llm/net.onnx -o two.onnx -q
cmp two.onnx out/llm/net.onnx
# Other rules, the same recipe for a model: not done again. Another recipe: that model alone.
journal=out/.mcompress-batch/journal-1-of-1.jsonl
rm zoo/broken.onnx
lines=$(wc -l <$journal)
sed -i 's/100MB/90MB/' rules/rules.yaml
"$MCOMPRESS" batch zoo rules/rules.yaml -o out -q
[[ $(wc -l <$journal) == "$lines" ]]
sed -i 's/smallest-file/optimize/' rules/rules.yaml
"$MCOMPRESS" batch zoo rules/rules.yaml -o out -q
[[ $(wc -l <$journal) == $((lines + 1)) ]]
# No rule fits: status 3, and the others are done.
sed -i 's/\[Conv\]/[LSTM]/' rules/rules.yaml
status=0
"$MCOMPRESS" batch zoo rules/rules.yaml -o out 2>message || status=$?
[[ $status == 3 ]] && grep -q '^cnn.onnx: no rule fits' message
# Mistakes name line and column.
wrong() {  # TEXT-OF-MESSAGE RULES
  local status=0
  printf '%b' "$2" >r.yaml
  "$MCOMPRESS" batch zoo r.yaml -o out2 2>message || status=$?
  [[ $status == 1 && ! -e out2 ]] && grep -qF "$1" message || { cat message; exit 9; }
}
wrong "did you mean 'recipe'" 'rules:\n  - recip: optimize\n'
wrong 'r.yaml:2:' 'rules:\n  - recip: optimize\n'
wrong "did you mean 'optimize'" 'rules:\n  - recipe: optimise\n'
wrong "did you mean 'has-op'" 'rules:\n  - recipe: optimize\n    when: {has-ops: [Conv]}\n'
wrong "needs either 'recipe' or 'skip: true'" 'rules:\n  - when: {path: x}\n'
wrong 'is never reached' 'rules:\n  - recipe: optimize\n  - recipe: optimize\n'
wrong 'is a condition of a recipe' 'rules:\n  - recipe: optimize\n    when: {data: given}\n'
wrong 'must be a list' 'rules: []\n'
wrong 'rules of version 1' 'version: 2\nrules:\n  - recipe: optimize\n'
