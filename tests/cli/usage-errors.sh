# Every mistake on the command line is status 1, one line, with the nearest name.
model=$MCOMPRESS_MODELS/digits/model.onnx
try() {  # EXPECTED-TEXT ARGUMENT...
  local expected=$1 status=0 text
  shift
  text=$("$MCOMPRESS" "$@" 2>&1 >/dev/null) || status=$?
  [[ $status == 1 ]] || { echo "status $status: $*"; exit 9; }
  [[ $(wc -l <<<"$text") == 1 ]] || { echo "more than one line: $text"; exit 9; }
  [[ $text == "mcompress: error: "*"$expected"* ]] || { echo "without '$expected': $text"; exit 9; }
}
try "did you mean 'quantize'" quantise model.onnx
try "did you mean '--version'" version
try "flags stand behind the command" --verbose
try "did you mean '--calib'" quantize "$model" -o out.onnx --calb x
try "unexpected argument 'second'" inspect "$model" second
try "MODEL is required" inspect
try "the output is missing" quantize "$model"
try "--mode: 'statik' is none of auto, static, dynamic, weight-only, float16, bfloat16 (did you mean 'static'?)" \
  quantize "$model" -o out.onnx --mode statik
try "--percentile: 20 is below 50" quantize "$model" -o out.onnx --calib x --percentile 20
try "--min-elements: expects an integer, not 'many'" \
  quantize "$model" -o out.onnx --mode weight-only --min-elements many
try "--method: is an option of prune-weights and quantize-static" \
  quantize "$model" -o out.onnx --mode weight-only --method entropy
try "static quantization needs calibration data" quantize "$model" -o out.onnx --mode static
try "did you mean 'onnxruntime-cpu'" quantize "$model" -o out.onnx --target onnxruntime-cp
try "'Cnov*' matches no node name, operator type or tensor of the model (nearest: 'Conv'" \
  quantize "$model" -o out.onnx --mode weight-only --exclude 'Cnov*'
try "did you mean 'fuse-batchnorm'" optimize "$model" -o out.onnx --skip fuse-batchnrm
try "did you mean 'fold-constants'" passes fold-constant
try "did you mean 'generic-qdq'" targets generic-qd
try "data are missing" eval "$model"
try "exclude each other" inspect "$model" --json --dump
[[ -z $(ls -A) ]]
