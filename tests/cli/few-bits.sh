# Weights in few bits: sizes, forms, what the data change, refusals, the same bytes.
digits=$MCOMPRESS_MODELS/digits
decoder=$MCOMPRESS_FIXTURES/decoder
size() { stat -c %s "$1"; }
quantize() { "$MCOMPRESS" quantize "$@" >out 2>messages; }

quantize "$digits/model.onnx" -o plain.onnx --weights uint4 --report plain.json
grep -q '"mode": "weight-only"' plain.json
(( $(size plain.onnx) * 5 < $(size "$digits/model.onnx") ))
"$MCOMPRESS" eval plain.onnx --data "$digits/eval.npz" >out 2>/dev/null
grep -q '^top1 9[78]\.' out

# The same bytes with any number of threads.
quantize "$digits/model.onnx" -o threads.onnx --weights uint4 --jobs 3 --threads 3
cmp plain.onnx threads.onnx

# Data weigh the errors; GPTQ takes them further. Without data it is refused.
quantize "$digits/model.onnx" -o gptq.onnx --weights uint4 --weight-method gptq --calib "$digits/calib.npz" \
  --samples 48 -v
grep -q 'GPTQ rounded [1-9][0-9]* layers: the errors of their outputs went down by [0-9.]* dB' messages
sqnr() { "$MCOMPRESS" compare "$digits/model.onnx" "$1" --data "$digits/eval.npz" --samples 200 2>/dev/null |
  sed -n 's/^logits  *\([0-9.]*\) dB.*/\1/p'; }
awk "BEGIN { exit !($(sqnr gptq.onnx) > $(sqnr plain.onnx)) }"
quantize "$digits/model.onnx" -o none.onnx --weights uint4 --weight-method gptq && exit 1
grep -q 'GPTQ needs calibration data' messages
[[ ! -e none.onnx ]]

# A run that did not come to its end is gone on with, to the same bytes; the file goes with the output.
resume=(--weights uint4 --weight-method gptq --calib "$digits/calib.npz" --samples 48 -v --resume journal)
quantize "$digits/model.onnx" -o resumed.onnx "${resume[@]}" --dry-run
[[ -s journal && ! -e resumed.onnx ]]
truncate -s -100 journal
quantize "$digits/model.onnx" -o resumed.onnx "${resume[@]}"
grep -q ' of [0-9]* layers were rounded before the interruption' messages
cmp gptq.onnx resumed.onnx
[[ ! -e journal ]]
echo 'of something else' >journal
status=0
quantize "$digits/model.onnx" -o none.onnx "${resume[@]}" || status=$?
[[ $status == 2 && ! -e none.onnx && $(cat journal) == 'of something else' ]]
status=0
quantize "$digits/model.onnx" -o none.onnx --weights uint4 --calib "$digits/calib.npz" --resume journal || status=$?
[[ $status == 1 && -e journal ]]
rm journal

# The search for scales as well, in the same file; wherever that ends.
awq=("${resume[@]}")
awq[3]=awq-gptq
quantize "$digits/model.onnx" -o whole.onnx "${awq[@]}"
quantize "$digits/model.onnx" -o resumed.onnx "${awq[@]}" --dry-run
length=$(size journal)
cp journal kept
for cut in 60 $((length / 2)) $((length - 100)); do
  head -c "$cut" kept >journal
  quantize "$digits/model.onnx" -o resumed.onnx "${awq[@]}"
  cmp whole.onnx resumed.onnx
  [[ ! -e journal ]]
done
grep -q ' groups were searched before the interruption' messages

# Bits within a size, and a size that is too small.
quantize "$digits/model.onnx" -o mixed.onnx --weights uint4 --avg-bits 6 -v
grep -q ' weights get 8 bits, [45]\.[0-9]* bits a weight in all' messages
(( $(size mixed.onnx) > $(size plain.onnx) ))
status=0
quantize "$digits/model.onnx" -o none.onnx --weights uint4 --max-bytes 20000 || status=$?
[[ $status == 5 ]]
grep -q 'were asked for, and with no weight above 4 bits it takes' messages
[[ ! -e none.onnx ]]

# Eight bits without a word of blocks: a scale per channel.
quantize "$digits/model.onnx" -o bytes.onnx --weights int8 --report bytes.json
grep -q 'int8 weights, per channel' bytes.json
quantize "$digits/model.onnx" -o blocks.onnx --weights int8 --block-size 64 --report blocks.json
grep -q 'int8 weights, blocks of 64' blocks.json

# A language model for a target of its own.
quantize "$decoder/model.onnx" -o decoder.onnx --weights int4 --block-size 16 --calib "$decoder/rows.npz" \
  --eval "$decoder/rows.npz"
grep -q '^perplexity ' messages
quantize "$decoder/model.onnx" -o qdq.onnx --weights int4 --block-size 16 --target generic-qdq
"$MCOMPRESS" inspect qdq.onnx >out 2>/dev/null
grep -q 'DequantizeLinear' out

# A model in float16 is a source like any other, and stays one.
quantize "$decoder/model.onnx" -o half.onnx --mode float16 --form compute
quantize half.onnx -o half4.onnx --weights int4 --block-size 16 --calib "$decoder/rows.npz" --weight-method gptq -v
grep -q 'GPTQ rounded [1-9]' messages
(( $(size half4.onnx) * 2 < $(size half.onnx) ))

# What does not go together.
for wrong in "--block-size 48" "--mode static" "--block-form other" "--weights uint3"; do
  status=0
  # shellcheck disable=SC2086
  quantize "$digits/model.onnx" -o none.onnx --weights uint4 --calib "$digits/calib.npz" $wrong || status=$?
  [[ $status == 1 ]]
  [[ ! -e none.onnx ]]
done

# Whole rows of a product that the target would keep packed: MatMulNBits has none, so they fold.
large=$MCOMPRESS_FIXTURES/large-product.onnx
quantize "$large" -o blocks.onnx --weights uint4
"$MCOMPRESS" inspect blocks.onnx --json >out
grep -q MatMulNBits out
quantize "$large" -o rows.onnx --weights uint4 --block-size 0
"$MCOMPRESS" inspect rows.onnx --json >out
grep -q '"Gather"' out
! grep -q MatMulNBits out
(( $(size rows.onnx) < $(size blocks.onnx) && $(size rows.onnx) * 7 < $(size "$large") ))
