# Codebooks and entropy-coded weights: sizes, the same results, refusals, the same bytes.
digits=$MCOMPRESS_MODELS/digits
size() { stat -c %s "$1"; }
same() { "$MCOMPRESS" compare "$1" "$2" --data "$digits/eval.npz" --samples 50 2>/dev/null; }

"$MCOMPRESS" cluster "$digits/model.onnx" -o plain.onnx --bits 4 --report plain.json >out 2>messages
grep -q '16 clusters, indices of 4 bits' plain.json
grep -q '"huffman_bits"' plain.json
(( $(size plain.onnx) * 3 < $(size "$digits/model.onnx") ))
"$MCOMPRESS" eval plain.onnx --data "$digits/eval.npz" >out 2>/dev/null
grep -q '^top1 9[5678]\.' out

# The same bytes with any number of threads.
"$MCOMPRESS" cluster "$digits/model.onnx" -o threads.onnx --bits 4 --threads 4 >out 2>messages
cmp plain.onnx threads.onnx

# A budget is kept, and one that is too small is a gate that was missed.
"$MCOMPRESS" cluster "$digits/model.onnx" -o mixed.onnx --avg-bits 4.5 -v >out 2>messages
grep -q ' bits a weight, .* dB expected of the weights' messages
status=0
"$MCOMPRESS" cluster "$digits/model.onnx" -o none.onnx --max-bytes 5000 >out 2>messages || status=$?
[[ $status == 5 && ! -e none.onnx ]]

# Pairs of weights with an index of 8 bits: as small as 4 bits each; no budget.
"$MCOMPRESS" cluster "$digits/model.onnx" -o pairs.onnx --bits 8 --dimension 2 >out 2>messages
(( $(size pairs.onnx) * 2 < $(size "$digits/model.onnx") ))
"$MCOMPRESS" eval pairs.onnx --data "$digits/eval.npz" >out 2>/dev/null
grep -q '^top1 9[5678]\.' out
status=0
"$MCOMPRESS" cluster "$digits/model.onnx" -o none.onnx --dimension 2 --avg-bits 3 >out 2>messages || status=$?
[[ $status == 1 && ! -e none.onnx ]]

# A codebook for each group of channels: closer than one for all, and coded in operators.
"$MCOMPRESS" cluster "$digits/model.onnx" -o grouped.onnx --bits 3 --groups 4 --rate 4 --report grouped.json >out 2>messages
grep -q '8 clusters for each of 4 channel groups, indices of 3 bits' grouped.json
grep -q '"groups": *4' grouped.json
"$MCOMPRESS" pack --form onnx grouped.onnx -o grouped-packed.onnx >out 2>messages
same grouped.onnx grouped-packed.onnx >out
grep -q 'logits *equal *equal' out
status=0
"$MCOMPRESS" cluster "$digits/model.onnx" -o none.onnx --groups 4 --share >out 2>messages || status=$?
[[ $status == 1 && ! -e none.onnx ]]

# With data, elements make up for each other's errors: outputs are closer with as many bytes.
"$MCOMPRESS" cluster "$digits/model.onnx" -o near.onnx --bits 3 --calib "$digits/calib.npz" --feedback=false --json >near.json 2>messages
"$MCOMPRESS" cluster "$digits/model.onnx" -o fed.onnx --bits 3 --calib "$digits/calib.npz" --json >fed.json 2>messages
db() { "$MCOMPRESS" compare "$digits/model.onnx" "$1" --data "$digits/calib.npz" 2>/dev/null | sed -n '3s/[^ ]* *\([0-9]*\)\..*/\1/p'; }
(( $(db fed.onnx) > $(db near.onnx) ))
# Even distances keep the closeness asked for, and give bytes for it.
"$MCOMPRESS" cluster "$digits/model.onnx" -o even.onnx --bits 5 --rate 0.5 --output-sqnr 20 --min-elements 256 --calib "$digits/calib.npz" >out 2>messages
(( $(db even.onnx) >= 19 && $(db even.onnx) <= 23 ))
# What can not be kept is said, and entries are then those without the wish.
"$MCOMPRESS" cluster "$digits/model.onnx" -o asked.onnx --bits 3 --output-sqnr 70 --calib "$digits/calib.npz" >out 2>messages
grep -q 'warning: not even the narrowest distances keep 70.0 dB' messages
[[ $(size asked.onnx) == $(size fed.onnx) && $(db asked.onnx) == $(db fed.onnx) ]]

# A runtime that would look entries up on every run is refused.
status=0
"$MCOMPRESS" cluster "$digits/model.onnx" -o none.onnx --target tensorrt >out 2>messages || status=$?
[[ $status == 3 && ! -e none.onnx ]]
grep -q 'does not compute constants when it loads a model' messages

# A built-in recipe by its name; a name of none is a usage error.
"$MCOMPRESS" run deep-compression "$digits/model.onnx" -o deep.onnx >out 2>messages
(( $(size deep.onnx) < $(size "$digits/model.onnx") ))
# The table of the layers: weights, what is kept, bits before and after coding, bytes, entropy. Each weight counts once.
grep -q '^layer .*weights .*kept .*bits .*Huffman .*index .*bytes .*entropy .*of float32' messages
grep -q '^all ' messages
status=0
"$MCOMPRESS" run deep-compresion "$digits/model.onnx" -o none.onnx >out 2>messages || status=$?
[[ $status == 1 && ! -e none.onnx ]]
