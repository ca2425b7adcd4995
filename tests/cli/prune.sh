# Pruned weights: sizes, what is kept, the gate, masks, the curve, refusals, the same bytes.
digits=$MCOMPRESS_MODELS/digits
size() { stat -c %s "$1"; }
prune() { "$MCOMPRESS" prune "$@" >out 2>messages; }

# Without data: magnitudes, in fewer bytes; what becomes of size and speed is said.
prune "$digits/model.onnx" -o plain.onnx --report plain.json
(( $(size plain.onnx) * 10 < $(size "$digits/model.onnx") * 8 ))
grep -q '"sparse-storage"' plain.json
grep -q 'no run gets faster' plain.json
grep -q '"unfolded_operators": 0' plain.json

# With data: 60 % of the weights go, and hardly an answer changes. The same bytes with more threads.
data=(--calib "$digits/calib.npz" --samples 60 --sparsity 0.6)
prune "$digits/model.onnx" -o half.onnx "${data[@]}" --save-mask mask.npz --curve curve.csv
"$MCOMPRESS" eval half.onnx --data "$digits/eval.npz" >out 2>/dev/null
grep -q '^top1 9[78]\.' out
prune "$digits/model.onnx" -o threads.onnx "${data[@]}" --jobs 3 --threads 3
cmp half.onnx threads.onnx
[[ $(head -1 curve.csv) == sparsity,drop,sqnr_db,bytes ]]
(( $(wc -l <curve.csv) == 2 ))
[[ ! -e mask.npz.partial && ! -e curve.csv.partial ]]

# The mask on the same graph: as many zeros, chosen by nobody.
prune "$digits/model.onnx" -o masked.onnx --mask mask.npz --report masked.json
grep -q 'mask given' masked.json
prune "$digits/model.onnx" -o masked.onnx --mask mask.npz --sparsity 0.5 && exit 1
grep -q 'a mask says how much goes' messages
status=0
prune "$digits/model.onnx" -o none.onnx --mask plain.onnx || status=$?
[[ $status == 2 && ! -e none.onnx ]]

# A drop that can not be held: 5, and nothing is written, side files neither.
status=0
prune "$digits/model.onnx" -o none.onnx --calib "$digits/calib.npz" --samples 20 --method magnitude \
  --repair none --scope layer --sparsity 0.97 --max-drop 0 --steps 1 --curve none.json || status=$?
[[ $status == 0 || $status == 5 ]]
if [[ $status == 5 ]]; then [[ ! -e none.onnx && ! -e none.json && ! -e none.json.partial ]]; fi

# Sparse and in integers, from one sweep: smaller than dense integers once they are packed, zeros
# and the reasons told. The same bytes with more threads.
ints=(--calib "$digits/calib.npz" --samples 60 --pattern 2:4)
prune "$digits/model.onnx" -o ints.onnx "${ints[@]}" --weights int8 --report ints.json
prune "$digits/model.onnx" -o threads.onnx "${ints[@]}" --weights int8 --jobs 3 --threads 3
cmp ints.onnx threads.onnx
"$MCOMPRESS" eval ints.onnx --data "$digits/eval.npz" >out 2>/dev/null
grep -q '^top1 9[78]\.' out
grep -q '"form": "int8 by output"' ints.json
grep -q '"score": ' ints.json
grep -q '"dense_because": ' ints.json
(( $(size ints.onnx) * 10 < $(size "$digits/model.onnx") * 4 ))
"$MCOMPRESS" quantize "$digits/model.onnx" -o dense.onnx --mode weight-only --weights int8 >out 2>messages
for model in ints dense; do "$MCOMPRESS" pack $model.onnx -o $model.mcz >out 2>messages; done
(( $(size ints.mcz) * 10 < $(size dense.mcz) * 8 ))

# Refusals.
refused() {
  local wanted=$1 status=0
  shift
  prune "$digits/model.onnx" -o none2.onnx "$@" || status=$?
  [[ $status == "$wanted" && ! -e none2.onnx ]]
}
refused 1 --pattern 4:2
refused 1 --method wanda
refused 1 --max-drop 1
refused 1 --weights int8 --storage gaps
refused 1 --weights int4 --block-size 20
refused 3 --storage sparse-initializer
refused 3 --storage gaps --target generic-qdq
refused 4 --save-mask /nowhere/mask.npz
