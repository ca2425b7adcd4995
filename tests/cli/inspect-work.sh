# What a model computes and keeps in memory.
digits=$MCOMPRESS_MODELS/digits/model.onnx
has() { grep -qF -- "$2" "$1" || { echo "without '$2':"; cat "$1"; exit 9; }; }
"$MCOMPRESS" inspect "$digits" >text
has text '4.719 M MACs'
has text 'taken as 1, as no size was given: batch'
has text 'activations: peak '
has text 'alive at the peak'
"$MCOMPRESS" inspect "$digits" --json >one.json
"$MCOMPRESS" inspect "$digits" --json >again.json
cmp one.json again.json
has one.json '"macs": 4719488'
has one.json '"assumed": ['
# Eight samples are eight times the work, and nothing is assumed.
"$MCOMPRESS" inspect "$digits" --input-shape input:8,1,28,28 --json >eight.json
has eight.json '"macs": 37755904'
has eight.json '"batch": 8'
has eight.json '"assumed": []'
grep -q 'taken as 1' eight.json && exit 9
# Measured beside planned: without the runtime's optimisations there is little between them.
"$MCOMPRESS" inspect "$digits" --measure --json >measured.json
has measured.json '"measured": {'
number() { grep -F "\"$2\": " "$1" | head -"${3:-1}" | tail -1 | tr -dc 0-9; }
planned=$(number measured.json peak_bytes 1) optimised=$(number measured.json peak_bytes 2)
as_is=$(number measured.json peak_bytes 3)
((optimised > 0 && optimised <= as_is && as_is < 2 * planned && planned < 2 * as_is)) ||
  { echo "$planned $optimised $as_is"; exit 9; }
"$MCOMPRESS" inspect "$digits" --measure --data "$MCOMPRESS_MODELS/digits/calib.npz" >text
has text 'the first of calib.npz'
"$MCOMPRESS" inspect "$digits" --passes >text
grep -Eq '^fuse-batchnorm +13 ' text
[[ -z $(find . -name '*.onnx*') ]]
# Nested graphs.
"$MCOMPRESS" inspect "$MCOMPRESS_FIXTURES/branches.onnx" >text
has text 'of an If the branch that costs most is counted'
try() {  # EXPECTED-TEXT ARGUMENT...
  local expected=$1 status=0
  shift
  "$MCOMPRESS" inspect "$@" >stdout 2>message || status=$?
  [[ $status == 1 && ! -s stdout && $(wc -l <message) == 1 ]] || { echo "status $status: $*"; exit 9; }
  has message "$expected"
}
try "did you mean 'input'" "$digits" --input-shape inptu:1,1,28,28
try "axis 2 given as 29, the model has [batch, 1, 28, 28]" "$digits" --input-shape input:1,1,29,28
try "3 sizes given" "$digits" --input-shape input:1,1,28
try "is no whole number" "$digits" --input-shape input:1,x
try "there is no input's name in front" "$digits" --input-shape 1,1,28,28
try "data are for --measure only" "$digits" --data x.npz
# Absurd sizes end at a limit, and that is said.
"$MCOMPRESS" inspect "$digits" --input-shape input:9000000000000000000,1,28,28 >text
has text 'over 9.2 E MACs'
has text '(counts end at 9.2 E)'
has text 'or more at '
