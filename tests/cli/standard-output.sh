# `-o -` puts the result, and nothing else, on standard output; everything said goes to standard error.
digits=$MCOMPRESS_MODELS/digits
same() {  # FILE ARGUMENT...: the command, once to FILE and once to a pipe
  local file=$1
  shift
  "$MCOMPRESS" "$@" -o "$file" 2>said
  "$MCOMPRESS" "$@" -o - 2>said.pipe | cat >piped
  cmp piped "$file"
  [[ -s said.pipe ]] || { echo "nothing was said: $*"; exit 9; }
  cmp said said.pipe
}
same small.onnx quantize "$digits/model.onnx" --mode weight-only
same clean.onnx optimize "$digits/model.onnx"
same table.json calibrate "$digits/model.onnx" --calib "$digits/calib.npz" --samples 8
# A copy of the input, when there is nothing to change.
"$MCOMPRESS" optimize clean.onnx -o - -q | cmp - clean.onnx
"$MCOMPRESS" quantize "$digits/model.onnx" --mode weight-only --dry-run --report - -q >report.json
grep -q '"dry_run": true' report.json
# Two results do not fit on one.
one_of() {
  local status=0
  "$MCOMPRESS" quantize "$digits/model.onnx" --mode weight-only -q "$@" >stdout 2>message || status=$?
  [[ $status == 1 && ! -s stdout ]] || { echo "status $status: $*"; exit 9; }
  grep -q 'standard output' message
}
one_of -o - --json
one_of -o - --report -
one_of -o out.onnx --json --report -
[[ ! -e out.onnx ]]
# A standard output that takes nothing is status 4, and no part of a larger result appears there.
for arguments in "optimize $digits/model.onnx -o -" "inspect $digits/model.onnx" "targets" "--version" "passes"; do
  status=0
  # shellcheck disable=SC2086
  "$MCOMPRESS" $arguments >/dev/full 2>message || status=$?
  [[ $status == 4 ]] || { echo "status $status: $arguments"; exit 9; }
  grep -q 'mcompress: error: ' message
done
status=0
"$MCOMPRESS" run <(echo '{"passes": ["raise-opset"]}') "$MCOMPRESS_FIXTURES/grows.onnx" -o - >stdout 2>message || status=$?
[[ $status == 4 && ! -s stdout ]]
