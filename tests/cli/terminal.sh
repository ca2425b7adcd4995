# Colours and progress are for terminals, and for those who want them.
command -v script >/dev/null || exit 0
digits=$MCOMPRESS_MODELS/digits
escape=$'\033'
on_terminal() { script -qec "$*" /dev/null </dev/null >screen || true; }
"$MCOMPRESS" inspect missing.onnx 2>piped || true
grep -q "$escape" piped && exit 9
on_terminal "'$MCOMPRESS' inspect missing.onnx"
grep -q "${escape}\[31merror:${escape}\[0m" screen
on_terminal "NO_COLOR=1 '$MCOMPRESS' inspect missing.onnx"
grep -q 'error: ' screen
grep -q "$escape" screen && exit 9
# An empty NO_COLOR is none.
on_terminal "NO_COLOR= '$MCOMPRESS' inspect missing.onnx"
grep -q "${escape}\[31m" screen
on_terminal "'$MCOMPRESS' inspect missing.onnx --log-format json"
grep -q "$escape" screen && exit 9

quantize="'$MCOMPRESS' quantize '$digits/model.onnx' --calib '$digits/calib.npz' -o out.onnx"
on_terminal "$quantize"
grep -q ' of [0-9]* \(samples\|passes\)' screen
for flag in -q '--progress never' '--log-format json'; do
  on_terminal "$quantize $flag"
  grep -q ' of [0-9]* \(samples\|passes\)' screen && { echo "progress with $flag"; exit 9; }
done
eval "$quantize" 2>piped
grep -q ' of [0-9]* \(samples\|passes\)' piped && exit 9
eval "$quantize --progress always" 2>piped
grep -q ' of [0-9]* \(samples\|passes\)' piped
# Quiet is quiet.
eval "$quantize -q" >stdout 2>piped
[[ ! -s stdout && ! -s piped ]]
