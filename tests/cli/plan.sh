# A plan lists what a recipe decides; applied as it is it gives the recipe's bytes, edited it is obeyed or refused with
# the line that can not hold.
digits=$MCOMPRESS_MODELS/digits
model=$digits/model.onnx
mkdir work && cd work

# The same bytes as the recipe, whatever the recipe and the form of the file.
same() {  # RECIPE FLAG...
  local recipe=$1
  shift
  "$MCOMPRESS" plan "$recipe" "$model" -o plan.yaml -q "$@"
  "$MCOMPRESS" apply plan.yaml "$model" -o applied.onnx -q "$@"
  "$MCOMPRESS" run "$recipe" "$model" -o run.onnx -q "$@"
  cmp applied.onnx run.onnx
}
same quantize-weight-only
same deep-compression
same server-int8 --calib "$digits/calib.npz"
same prune-weights
same cluster
"$MCOMPRESS" plan cluster "$model" -o again.yaml -q
cmp plan.yaml again.yaml
"$MCOMPRESS" plan cluster "$model" -o plan.json -q
"$MCOMPRESS" apply plan.json "$model" -o json.onnx -q
cmp json.onnx applied.onnx
"$MCOMPRESS" plan cluster "$model" -q >stdout.yaml
cmp plan.yaml stdout.yaml
grep -q '^mcompress-plan: 1$' plan.yaml
# Flags of the recipe's passes are part of the plan.
"$MCOMPRESS" plan cluster "$model" --bits 3 -q >three.yaml
grep -q 'options: {bits: 3}' three.yaml
rm ./*.onnx plan.json

edit() {  # TENSOR SED-COMMAND
  sed -i "/tensor: \"\?$1\"\?\$/,/mark: / { $2 }" plan.yaml
}
form() {  # TENSOR: its form in out.onnx
  "$MCOMPRESS" explain out.onnx --tensor "$1*" --min-elements 1000 -q 2>/dev/null
}
apply() {
  rm -f out.onnx
  "$MCOMPRESS" apply plan.yaml "$model" -o out.onnx -q "$@"
}

# Kept, with fewer bits, by another pass: that tensor, and no other.
edit body.4.a.weight 's/do: .*/do: keep/'
edit body.4.b.weight 's/bits: 4/bits: 2/'
edit body.3.b.weight 's/do: .*/do: quantize-weights/; /options:/d'
apply
form body.4.a.weight | grep -q 'float32$'
form body.4.b.weight | grep -q 'codebook of 4 floats'
form body.3.b.weight | grep -q 'int8, '
form body.3.a.weight | grep -q 'codebook of 16 floats'
# What was done is a plan again.
"$MCOMPRESS" apply plan.yaml "$model" --print-recipe -q >edited.json
"$MCOMPRESS" run edited.json "$model" -o out2.onnx -q
"$MCOMPRESS" apply plan.yaml "$model" --dry-run -q
# A pass that works on the whole graph leaves out what is kept.
"$MCOMPRESS" plan server-int8 "$model" -o plan.yaml --calib "$digits/calib.npz" -q
edit body.1.a.weight 's/do: .*/do: keep/'
apply --calib "$digits/calib.npz"
form body.1.a.weight | grep -q 'float32$'
form body.4.a.weight | grep -q 'int8, a scale per channel on axis 0 (DequantizeLinear)'
# A budget for all gives way to what was decided within it.
"$MCOMPRESS" plan cluster "$model" --avg-bits 3 -o plan.yaml -q
edit body.4.b.weight 's/options: .*/options: {clusters: 12}/'
apply
form body.4.b.weight | grep -q 'codebook of 12 floats'
# Pruned, clustered and coded: kept by all of it, and what was made of it is gone too.
"$MCOMPRESS" plan deep-compression "$model" -o plan.yaml -q
edit body.4.b.weight 's/do: .*/do: keep/'
apply
form body.4.b.weight | grep -q 'float32$'
form '*body.4/a' | grep -q 'codebook of 16 floats, indices of several lengths'
# Zeros: another share.
"$MCOMPRESS" plan prune-weights "$model" -o plan.yaml -q
edit body.4.b.weight 's/sparsity: 0.5/sparsity: 0.8/; s/storage: [a-z-]*/storage: dense/'
apply
form body.4.b.weight | grep -q '80.0 % zeros'

# What can not hold: status 3, the line, the tensor, the reason; nothing is written.
rm -f ./*.onnx edited.json
refused() {  # STATUS TEXT FLAG...
  local expected=$1 text=$2 status=0 message before
  shift 2
  before=$(ls)
  message=$("$MCOMPRESS" apply plan.yaml "$model" -o out.onnx -q "$@" 2>&1 >/dev/null) || status=$?
  [[ $status == "$expected" && $(ls) == "$before" ]] || { echo "status $status: $message"; exit 9; }
  [[ $message == *"$text"* ]] || { echo "without '$text': $message"; exit 9; }
}
line_of() {  # TENSOR: where its block starts
  echo "plan.yaml:$(grep -n "tensor: \"\?$1\"\?\$" plan.yaml | head -1 | cut -d: -f1):5"
}
fresh() { "$MCOMPRESS" plan quantize-weight-only "$model" -o plan.yaml -q; }
fresh
edit stem.weight 's/do: keep/do: quantize-weights/'
refused 3 "$(line_of stem.weight): stem.weight: quantize-weights leaves it: has 144 elements, below 256"
fresh
edit stem.weight 's/do: keep/do: quantize-weights/; s/^\( *\)do: .*/&\n\1options: {min-elements: 100}/'
apply
form stem.weight | grep -q 'int8' || "$MCOMPRESS" explain out.onnx --tensor 'stem*' -q | grep -q 'int8'
rm out.onnx
fresh
edit fc.weight 's/do: .*/do: quantize-dynamic/; /options:/d'
refused 3 "$(line_of fc.weight): fc.weight: quantize-dynamic leaves it"
# No line is about a tensor that the recipe compresses.
fresh
sed -i '/tensor: body.4.b.weight$/,/mark: /d' plan.yaml
refused 3 "body.4.b.weight: no line is about it"
# Mistakes: status 1, line and column, the nearest name.
fresh
edit body.4.b.weight 's/do: .*/do: quantize-weight/'
refused 1 "did you mean 'quantize-weights'?"
fresh
edit body.4.b.weight 's/    do:/    doo:/'
refused 1 "unknown key 'doo' (did you mean 'do'?)"
fresh
edit body.4.b.weight 's/tensor: .*/tensor: body.4.b.weigth/'
refused 1 "the model has no tensor 'body.4.b.weigth' (did you mean 'body.4.b.weight'?)"
"$MCOMPRESS" plan server-int8 "$model" -o plan.yaml --calib "$digits/calib.npz" -q
refused 1 "the plan was made with calibration data"
# Another model: both digests; with the same tensors it can be asked for.
fresh
digest=$(sed -n 's/^model: .*digest: "\?\([0-9a-f]*\)"\?}/\1/p' plan.yaml)
"$MCOMPRESS" convert-opset "$model" -o other.onnx --to 15 -q
status=0
"$MCOMPRESS" apply plan.yaml other.onnx -o out.onnx -q 2>message || status=$?
[[ $status == 2 && ! -e out.onnx ]]
grep -q "digest $digest of 'model.onnx', this one has [0-9a-f]*" message
"$MCOMPRESS" apply plan.yaml other.onnx -o out.onnx --other-model -q
rm out.onnx

# explain: what a recipe would do and why, selected by globs, as data too.
"$MCOMPRESS" explain "$model" --recipe quantize-weight-only --tensor 'stem*' -q >table
grep -q '^stem.weight .* keep  *has 144 elements, below 256$' table
[[ $(wc -l <table) == 2 ]]
"$MCOMPRESS" explain "$model" --recipe plan.yaml --json -q | grep -q '"do": "quantize-weights"'
"$MCOMPRESS" explain "$model" --tensor 'body.4*' -q | grep -q 'float32$'
status=0
"$MCOMPRESS" explain "$model" --tensor 'body.4.b.weigth' -q >table 2>message || status=$?
[[ $status == 1 && ! -s table ]]
grep -q "did you mean 'body.4.b.weight'?" message
# A dry run of a plan writes none.
"$MCOMPRESS" plan cluster "$model" -o none.yaml --dry-run -q
[[ ! -e none.yaml ]]
