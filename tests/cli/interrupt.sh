# An interrupt at any moment: the folder is as it was (or the file is whole), the status is 130.
digits=$MCOMPRESS_MODELS/digits
mkdir work temporary && cd work
export TMPDIR=$PWD/../temporary
"$MCOMPRESS" quantize "$digits/model.onnx" -o ../whole.onnx --calib "$digits/calib.npz" -q
for delay in 0.005 0.01 0.02 0.03 0.05 0.08 0.12 0.2; do
  status=0
  timeout --preserve-status -s INT "$delay" "$MCOMPRESS" quantize "$digits/model.onnx" \
    -o out.onnx --calib "$digits/calib.npz" -q 2>../message || status=$?
  if [[ -e out.onnx ]]; then
    cmp out.onnx ../whole.onnx
    rm out.onnx
  fi
  # Before main() has installed its handler the shell's own 130 comes from the signal.
  [[ $status == 130 || $status == 0 ]] || { echo "status $status after $delay s"; exit 9; }
  [[ -z $(ls -A . "$TMPDIR" | grep -v ':$') ]] || { ls -AR . "$TMPDIR"; exit 9; }
done
# Other ways to be told to stop are the same, once main() has begun: until then the signal itself ends the process, which a
# slow build may take a while to leave behind.
for signal in TERM HUP; do
  for delay in 0.05 0.2 0.8 3; do
    status=0
    timeout --preserve-status -s $signal "$delay" "$MCOMPRESS" quantize "$digits/model.onnx" \
      -o out.onnx --calib "$digits/calib.npz" -q 2>../message || status=$?
    rm -f out.onnx
    [[ -z $(ls -A) ]] || { ls -A; exit 9; }
    [[ $status == $((128 + $(kill -l $signal))) ]] || break
  done
  [[ $status == 130 || $status == 0 ]] || { echo "status $status after $signal"; exit 9; }
done
# Nor does anything stay where the runtime writes for us, which is no output.
for delay in 0.1 0.15 0.2 0.25 0.3 0.4; do
  timeout --preserve-status -s INT "$delay" "$MCOMPRESS" bench "$digits/model.onnx" --profile -q >../shown 2>../message || true
  [[ -z $(ls -A "$TMPDIR") ]] || { ls -AR "$TMPDIR"; exit 9; }
done
