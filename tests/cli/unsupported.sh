# What this build, target or model does not support is status 3 and leaves nothing behind.
custom=$MCOMPRESS_FIXTURES/custom.onnx
mkdir work && cd work
try() {  # EXPECTED-TEXT ARGUMENT...
  local expected=$1 status=0 text
  shift
  text=$("$MCOMPRESS" "$@" 2>&1 >/dev/null) || status=$?
  [[ $status == 3 ]] || { echo "status $status: $*: $text"; exit 9; }
  [[ $text == *"mcompress: error: "*"$expected"* ]] || { echo "without '$expected': $text"; exit 9; }
}
# An operator that the runtime has never heard of: the node is named, and what can be done.
try Mystery optimize "$custom" -o out.onnx
try no-verify optimize "$custom" -o out.onnx
try Mystery bench "$custom"
[[ -z $(ls -A) ]]
# Not verified, it is said, and what was unknown is still there.
"$MCOMPRESS" optimize "$custom" -o out.onnx --no-verify --no-provenance 2>../message
grep -q 'not verified' ../message
"$MCOMPRESS" inspect out.onnx --dump | grep -q Mystery
# What the checker has against the original is no reason to refuse what the runtime takes.
"$MCOMPRESS" optimize "$MCOMPRESS_FIXTURES/shapeless.onnx" -o shapeless.onnx 2>../message
grep -q 'warning: .*shapeless.onnx: of the original, too, .*shape' ../message
[[ $("$MCOMPRESS" inspect shapeless.onnx --dump | grep -c Identity) == 0 ]]
