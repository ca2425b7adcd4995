# Topics, and what was meant: commands, flags, values, topics, recipes, passes, targets, patterns.
"$MCOMPRESS" help >overview
"$MCOMPRESS" --help | cmp - overview
topics=$(sed -n '/^Topics/,/^$/s/^  \([a-z-]*\).*/\1/p' overview)
for topic in data recipes targets formats gates batch reports json exit-codes environment; do
  grep -qx "$topic" <<<"$topics"
  "$MCOMPRESS" help "$topic" >text
  [[ $(wc -l <text) -gt 4 ]] && [[ $(wc -L <text) -le 100 ]] || { echo "$topic"; wc -lL text; exit 9; }
done
"$MCOMPRESS" help batch | grep -q -e '--print-job'
"$MCOMPRESS" help batch | grep -q '^A recipe over many models'
"$MCOMPRESS" help recipes | grep -q '^  server-int8 '
"$MCOMPRESS" help targets | grep -q '^  onnxruntime-cpu '

model=$MCOMPRESS_MODELS/digits/model.onnx
meant() {  # NAME ARGUMENTS...
  local name=$1 status=0
  shift
  "$MCOMPRESS" "$@" 2>message >/dev/null || status=$?
  [[ $status == 1 && $(wc -l <message) == 1 ]] && grep -qF "$name" message || { echo "$*"; cat message; exit 9; }
}
meant "did you mean 'exit-codes'" help exit-code
meant "did you mean 'quantize'" help quantise
meant "did you mean 'inspect'" inspct
meant "did you mean '--target'" quantize "$model" -o out.onnx --tagret x
meant "did you mean 'weight-only'" quantize "$model" -o out.onnx --mode weigth-only
meant "did you mean 'server-int8'" run server-int "$model" -o out.onnx
meant "did you mean 'server-int8'" batch "$model" server-int -o folder
meant "did you mean 'fuse-batchnorm'" passes fuse-batchnrm
meant "did you mean 'fuse-batchnorm'" optimize "$model" -o out.onnx --only fuse-batchnrm
meant "did you mean 'onnxruntime-cpu'" targets onnxruntime-cp
meant "did you mean 'onnxruntime-cpu'" quantize "$model" -o out.onnx --target onnxruntime-cpo
meant "nearest: 'Conv'" quantize "$model" -o out.onnx --mode weight-only --exclude 'Cnov'
meant "did you mean 'bench'" schema bnech
printf 'passes:\n  - pass: quantize-weigths\n' >r.yaml
meant "did you mean 'quantize-weights'" run r.yaml "$model" -o out.onnx
printf 'passes:\n  - pass: quantize-weights\n    min-element: 3\n' >r.yaml
meant "did you mean 'min-elements'" run r.yaml "$model" -o out.onnx
printf 'gates: {max-dorp: 1}\npasses: [quantize-weights]\n' >r.yaml
meant "did you mean 'max-drop'" run r.yaml "$model" -o out.onnx
printf 'pases: [quantize-weights]\n' >r.yaml
meant "did you mean 'passes'" run r.yaml "$model" -o out.onnx
