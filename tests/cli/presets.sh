# Built-in recipes by name, conditions, data and gates of a recipe, and --print-recipe of any command line.
digits=$MCOMPRESS_MODELS/digits
model=$digits/model.onnx
for name in mobile-int8 server-int8 llm-int4 smallest-file; do
  "$MCOMPRESS" run "$name" "$model" -o "$name.onnx" -q
done
# With data the same recipe is another one.
"$MCOMPRESS" run mobile-int8 "$model" -o static.onnx --calib "$digits/calib.npz" -q
! cmp -s static.onnx mobile-int8.onnx

# What is printed for a command line gives the bytes of that command line, wherever it lies.
replays() {
  "$MCOMPRESS" "$@" -o direct.onnx -q
  "$MCOMPRESS" "$@" --print-recipe >printed.json
  mkdir -p elsewhere && cp printed.json elsewhere/
  "$MCOMPRESS" run elsewhere/printed.json "$model" -o replayed.onnx -q
  cmp direct.onnx replayed.onnx || { echo "$*"; exit 9; }
}
cp "$digits/calib.npz" here.npz
replays quantize "$model" --mode weight-only
replays quantize "$model" --calib here.npz
replays quantize "$model" --calib here.npz --samples 8 --min-sqnr 5 --exclude Gemm
replays quantize "$model" --weights uint4 --block-size 32
replays optimize "$model" --skip fuse-batchnorm
replays run smallest-file "$model"
replays convert-opset "$model" --to 17

# Conditions: of size, operators, their share of the weights, data.
wants() {  # YES|NO CONDITION
  printf 'version: 1\npasses:\n  - lift-constants\n  - pass: quantize-weights\n    when: %s\n' "$2" >when.yaml
  "$MCOMPRESS" run when.yaml "$model" --print-recipe >printed.json
  case $1 in
    YES) grep -q quantize-weights printed.json ;;
    NO) ! grep -q quantize-weights printed.json ;;
  esac || { echo "$1 $2"; exit 9; }
}
wants YES '{bytes-above: 100kB}'
wants NO '{bytes-above: 100MB}'
wants NO '{bytes-below: 100kB}'
wants YES '{has-op: [Gemm]}'
wants NO '{has-op: [LSTM]}'
wants NO '{lacks-op: [Gemm]}'
wants YES '{ops: [Gemm, Conv], ops-above: 0.9}'
wants NO '{ops: [Relu], ops-above: 0.1}'
wants YES '{ops: [Relu], ops-below: 0.1}'
wants NO '{ops: [Gemm, Conv], ops-below: 0.9}'
wants YES '{bytes-below: 100MB, lacks-op: [LSTM]}'
wants NO '{data: given}'
wants YES '{data: missing, has-op: [Gemm], bytes-above: 1}'

# Data beside the recipe or beside the model.
mkdir zoo && cp "$model" zoo/net.onnx && cp "$digits/calib.npz" zoo/net.npz
printf 'version: 1\nconverge: true\ndata: {calib: "{folder}/{stem}.npz"}\npasses:\n  - recipe: quantize-static\n' >data.yaml
"$MCOMPRESS" run data.yaml zoo/net.onnx -o by-data.onnx -q
"$MCOMPRESS" quantize zoo/net.onnx --mode static --calib zoo/net.npz -o by-flag.onnx -q
# Only the recipe's name, which is in its digest, differs.
[[ $(stat -c %s by-data.onnx) == $(stat -c %s by-flag.onnx) ]]

# Gates of size: nothing is written.
status=0
printf 'version: 1\ngates: {max-bytes: 10kB}\npasses:\n  - recipe: quantize-weight-only\n' >gate.yaml
"$MCOMPRESS" run gate.yaml "$model" -o missed.onnx 2>message || status=$?
[[ $status == 5 && ! -e missed.onnx ]] && grep -q 'max-bytes allows 10000' message
printf 'version: 1\ngates: {max-size-ratio: 0.9}\npasses:\n  - recipe: quantize-weight-only\n' >gate.yaml
"$MCOMPRESS" run gate.yaml "$model" -o met.onnx -q

refused() {  # TEXT RECIPE
  local status=0
  printf '%b' "$2" >wrong.yaml
  "$MCOMPRESS" run wrong.yaml missing.onnx -o out.onnx 2>message || status=$?
  [[ $status == 1 && ! -e out.onnx ]] && grep -qF -- "$1" message || { echo "$1"; cat message; exit 9; }
}
refused "wrong.yaml:1:10: version: recipes of version 9" 'version: 9\npasses: [lift-constants]\n'
refused "did you mean 'has-op'" 'passes:\n  - pass: lift-constants\n    when: {has-opp: [Conv]}\n'
refused "'4 elephants' is no size" 'passes:\n  - pass: lift-constants\n    when: {bytes-above: 4 elephants}\n'
refused "did you mean 'max-drop'" 'gates: {max-drp: 1}\npasses: [lift-constants]\n'
refused "did you mean 'calib'" 'data: {calb: x}\npasses: [lift-constants]\n'
refused "did you mean 'quantize-static'" 'passes:\n  - recipe: quantize-statc\n'
refused "did you mean 'block-size'" 'passes:\n  - recipe: quantize-blocks\n    blck-size: 32\n'
status=0
"$MCOMPRESS" run mobile-int9 "$model" -o out.onnx 2>message || status=$?
[[ $status == 1 ]] && grep -q "did you mean 'mobile-int8'" message
