# --json is valid JSON on standard output, alone there.
command -v python3 >/dev/null || exit 0
digits=$MCOMPRESS_MODELS/digits
valid() { "$MCOMPRESS" "$@" 2>/dev/null | python3 -m json.tool >/dev/null || { echo "$*"; exit 9; }; }
valid inspect "$digits/model.onnx" --json
valid quantize "$digits/model.onnx" -o out.onnx --mode weight-only --json
valid inspect "$digits/model.onnx" --measure --passes --json
valid diff "$digits/model.onnx" out.onnx --json
valid eval out.onnx --data "$digits/eval.npz" --against "$digits/model.onnx" --samples 100 --json
valid compare "$digits/model.onnx" out.onnx --data "$digits/calib.npz" --json
valid bench out.onnx --against "$digits/model.onnx" --runs 3 --loads 1 --json
valid targets --json
valid quantize "$digits/model.onnx" --mode weight-only --print-recipe
"$MCOMPRESS" inspect missing.onnx --log-format json 2>&1 | python3 -m json.tool >/dev/null
