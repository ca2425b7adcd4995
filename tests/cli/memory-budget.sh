# --memory-budget: the plan is shown, what is too little is said, and no byte of the table changes.
digits=$MCOMPRESS_MODELS/digits
calibrate() {
  "$MCOMPRESS" calibrate "$digits/model.onnx" --calib "$digits/calib.npz" "$@" 2>message
}
calibrate -o free.json --jobs 1 -v
grep -q 'runs of up to .* samples, with .* MiB of observed activations each' message
[[ $(grep -c 'budget' message) == 0 ]]
calibrate -o roomy.json --memory-budget 500000000 --jobs 3 -v
grep -q 'hold: a run takes .* MiB, statistics .* MiB, in 1 pass over the data' message
[[ $(grep -c 'calibration needs' message) == 0 ]]
cmp free.json roomy.json
# Not enough for one run: one sentence with both figures.
calibrate -o tight.json --memory-budget 100000 --jobs 3
[[ $(grep -c 'calibration needs at least .* MiB, the budget is 0.10 MiB: it takes .* MiB, one run .*' message) == 1 ]]
cmp free.json tight.json
# Just enough (the figure has two digits): the values are observed in several passes.
least=$(sed -n 's/.*needs at least \([0-9]*\.[0-9]*\) MiB.*/\1/p' message)
calibrate -o passes.json --memory-budget $(((10#${least/./} + 1) * 10486)) --jobs 3 -v
grep -q ' passes over the data' message
[[ $(grep -c 'calibration needs' message) == 0 ]]
cmp free.json passes.json
# What quantize runs after calibration keeps to the budget, too: every step says its plan, too little is
# said with both figures, and the model is the same.
quantize() {
  "$MCOMPRESS" quantize "$digits/model.onnx" --mode static --calib "$digits/calib.npz" --no-verify "$@" 2>message
}
quantize -o free.onnx
quantize -o roomy.onnx --memory-budget 500000000 --jobs 2 -v
grep -q 'the choice of ranges within 476.84 MiB: .* samples in 1 pass, .* at once; a run takes .* MiB' message
grep -q 'comparing outputs within 476.84 MiB: 16 of 16 samples kept' message
[[ $(grep -c 'needs at least' message) == 0 ]]
cmp free.onnx roomy.onnx
quantize -o tight.onnx --memory-budget 5000 --jobs 2
grep -q 'the choice of ranges needs at least .* MiB, the budget is 0.00 MiB' message
grep -q 'comparing outputs needs at least .* MiB, the budget is 0.00 MiB' message
cmp free.onnx tight.onnx
