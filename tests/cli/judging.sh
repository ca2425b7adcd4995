# What eval, compare and bench say beyond one number.
digits=$MCOMPRESS_MODELS/digits
"$MCOMPRESS" quantize "$digits/model.onnx" -o int8.onnx --calib "$digits/calib.npz" 2>/dev/null
# eval: losses by class, mistakes, and the same as JSON.
"$MCOMPRESS" eval int8.onnx --data "$digits/eval.npz" --against "$digits/model.onnx" --samples 400 \
  --top 3 >eval.txt 2>/dev/null
grep -q '^top5 ' eval.txt
grep -q '^classes: .* on average, disparity .*, worst class ' eval.txt
[[ $(grep -c ' points$' eval.txt) == 4 ]]
"$MCOMPRESS" eval int8.onnx --data "$digits/eval.npz" --against "$digits/model.onnx" --samples 400 \
  --json >eval.json 2>/dev/null
grep -q '"largest_loss_first"' eval.json
grep -q '"confusion"' eval.json
# compare: each layer by itself and with what is in front of it.
"$MCOMPRESS" compare "$digits/model.onnx" int8.onnx --data "$digits/eval.npz" --samples 8 --layers \
  --layer-samples 4 >layers.txt 2>/dev/null
grep -q 'the worst by themselves first (4 samples)' layers.txt
grep -q '^the error first appears at layer ' layers.txt
"$MCOMPRESS" compare "$digits/model.onnx" "$digits/model.onnx" --data "$digits/eval.npz" \
  --samples 2 --layers >same.txt 2>/dev/null
grep -q '^no layer differs$' same.txt
# bench: operators, nodes, memory, a trace that other programs read.
"$MCOMPRESS" bench int8.onnx --against "$digits/model.onnx" --runs 5 --profile --top 2 \
  --trace trace.json >bench.txt 2>/dev/null
grep -q 'to warm up$' bench.txt
grep -q '^memory .*at rest' bench.txt
grep -q '^time in kernels per run$' bench.txt
grep -q 'QLinearConv' bench.txt
head -c 1 trace.json | grep -q '\['
grep -q '"ph" *: *"X"' trace.json
"$MCOMPRESS" bench int8.onnx --runs 3 --json >bench.json 2>/dev/null
grep -q '"peak_bytes"' bench.json
grep -q '"session_bytes"' bench.json
# Where the machine shows no counter, asking for energy is refused and says why.
if ! ls /sys/class/powercap/intel-rapl:*/energy_uj >/dev/null 2>&1; then
  status=0
  "$MCOMPRESS" bench int8.onnx --runs 1 --energy >out 2>message || status=$?
  [[ $status == 3 && ! -s out ]]
  grep -q 'RAPL' message
fi
# A trace that can not be written: status 4.
status=0
"$MCOMPRESS" bench int8.onnx --runs 1 --trace missing/trace.json >out 2>message || status=$?
[[ $status == 4 ]]
