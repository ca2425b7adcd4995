# Structured pruning by a recipe: less is computed, the result runs, and what is asked for is held.
digits=$MCOMPRESS_MODELS/digits
model=$digits/model.onnx
fail() { echo "$*"; exit 9; }
cat >half.json <<'R'
{"name": "half", "passes": ["lift-constants", "infer-shapes", "fuse-batchnorm", "eliminate-dead",
  {"pass": "prune-channels", "flops": 0.6, "samples": 64}, "infer-shapes", "eliminate-dead"]}
R
"$MCOMPRESS" run half.json "$model" -o half.onnx --calib "$digits/calib.npz" --report report.json -q
grep -q '"curve"' report.json || fail "no curve"
grep -q '"error_after"' report.json || fail "nothing was fitted"
[[ $(stat -c %s half.onnx) -lt $(stat -c %s "$model") ]] || fail "no smaller"
# The same bytes whatever the threads.
"$MCOMPRESS" run half.json "$model" -o again.onnx --calib "$digits/calib.npz" --jobs 2 -q
cmp half.onnx again.onnx || fail "other bytes"
# The command does what the recipe does, for the kinds that are asked for.
"$MCOMPRESS" prune "$model" -o command.onnx --pattern channels --flops 0.6 --calib "$digits/calib.npz" -q
[[ $(stat -c %s command.onnx) -lt $(stat -c %s "$model") ]] || fail "no smaller"
"$MCOMPRESS" inspect command.onnx --json >command.json
[[ $(grep -c '"Conv"' command.json) -gt 0 ]] || fail "no convolutions"
# What no one can cut, and why.
"$MCOMPRESS" inspect --groups "$model" >groups
grep -q 'coupling groups' groups || fail "no groups"
grep -q 'is a graph output' groups || fail "no reason"
"$MCOMPRESS" inspect --groups --json "$model" >groups.json; grep -q free_units groups.json || fail "no JSON"
"$MCOMPRESS" inspect --groups --dot - "$model" >groups.dot; grep -q "^digraph groups" groups.dot || fail "no drawing"
# A goal that nothing can be judged by is refused, and nothing is written.
sed 's/"flops": 0.6/"score": "data"/' half.json >data.json
status=0
"$MCOMPRESS" run data.json "$model" -o data.onnx -q 2>message || status=$?
[[ $status == 1 ]] || fail "status $status"
grep -q 'scores by data need calibration data' message || fail "no reason"
[[ ! -e data.onnx ]] || fail "something was written"
# Depth: a residual branch goes, and a goal without data is refused.
status=0
"$MCOMPRESS" prune "$model" -o deep.onnx --pattern depth -q 2>message || status=$?
[[ $status == 1 ]] || fail "status $status"
grep -q 'blocks are chosen by what the model makes without them' message || fail "no reason"
[[ ! -e deep.onnx ]] || fail "something was written"
# Kernel time: what is measured may differ, what is written has to run and to be smaller.
"$MCOMPRESS" prune "$model" -o fast.onnx --pattern channels --latency 0.9 --samples 32 \
  --calib "$digits/calib.npz" --report fast.json -q 2>/dev/null
grep -q '"latency"' fast.json || fail "no measured time"
[[ $(stat -c %s fast.onnx) -lt $(stat -c %s "$model") ]] || fail "no smaller"
# Lost points: whatever step goes beyond is undone.
"$MCOMPRESS" prune "$model" -o held.onnx --pattern channels --max-drop 1 --samples 32 \
  --calib "$digits/calib.npz" --eval "$digits/eval.npz" --report held.json -q 2>/dev/null
grep -q '"drop"' held.json || fail "no drop measured"
