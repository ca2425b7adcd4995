# Decoder language models: token ids are all the data they need.
decoder=$MCOMPRESS_FIXTURES/decoder
tokens="--calib $decoder/tokens.npy --sequence-length 40"
value() { sed -n "s/^ *\"$1\": \([-0-9.e+]*\),*\$/\1/p" "$2" | tail -n 1; }

# One row of tokens is cut by the positions that the model has, and what follows from them is said.
"$MCOMPRESS" eval -v "$decoder/model.onnx" --data "$decoder/tokens.npy" >whole.txt 2>notes
grep -q 'input_ids: 1200 tokens are cut into 18 sequences of 64; the last 48 are left out' notes
for name in attention_mask position_ids past_key_values.0.key; do grep -q ": $name: .* derived" notes; done
grep -q '^perplexity [0-9.]* (1,134 tokens), 18 samples$' whole.txt
# With and without keys and values the same; padding does not count.
for model in model no-cache; do
  "$MCOMPRESS" eval "$decoder/$model.onnx" --data "$decoder/rows.npz" --metric perplexity --json \
    >$model.json 2>/dev/null
  grep -q '"metric": "perplexity"' $model.json
  [[ $(value decisions $model.json) == 344 ]]
done
[[ $(value value model.json | cut -c 1-7) == $(value value no-cache.json | cut -c 1-7) ]]
"$MCOMPRESS" eval "$decoder/model.onnx" --data "$decoder/rows.npz" --context-tokens 20 >out 2>/dev/null
grep -q ' (48 tokens), 16 samples$' out
# Against another: agreement and divergence; against itself none.
"$MCOMPRESS" eval "$decoder/model.onnx" --data "$decoder/rows.npz" --reference "$decoder/other.onnx" \
  >other.txt 2>/dev/null
grep -q '^other.onnx: [0-9.]*, difference [-+][0-9.]* %$' other.txt
grep -q '^KL divergence mean [0-9.]*, p99 [0-9.]*, max [0-9.]*$' other.txt
"$MCOMPRESS" eval "$decoder/model.onnx" --data "$decoder/rows.npz" --against "$decoder/model.onnx" \
  >same.txt 2>/dev/null
grep -q '^agreement 100.00 %$' same.txt
grep -q '^KL divergence mean 0, p99 0, max 0$' same.txt

# A reference with other inputs for the same tokens.
"$MCOMPRESS" eval "$decoder/no-cache.onnx" --data "$decoder/rows.npz" --metric perplexity \
  --against "$decoder/model.onnx" >out 2>/dev/null
grep -q '^agreement 100.00 %$' out

# An array of one's own takes the place of what is derived; what can not be derived is asked for.
"$MCOMPRESS" eval -v "$decoder/model.onnx" --data "$decoder/rows.npz" \
  --input position_ids="$decoder/rows.npz" >out 2>message && exit 1
grep -q 'position_ids' message

# Optimised and quantized, static ranges from empty keys and values among them.
"$MCOMPRESS" optimize "$decoder/model.onnx" -o optimised.onnx 2>/dev/null
"$MCOMPRESS" compare "$decoder/model.onnx" optimised.onnx --data "$decoder/rows.npz" >out 2>/dev/null
grep -q '^logits ' out
for mode in weight-only dynamic static; do
  "$MCOMPRESS" quantize "$decoder/model.onnx" -o $mode.onnx --mode $mode $tokens \
    --eval "$decoder/rows.npz" --report $mode.json >out 2>messages
  grep -q '^perplexity  *[0-9.]*  *[0-9.]*  *[-+][0-9.]* %' messages
  grep -q '"metric": "perplexity"' $mode.json
  "$MCOMPRESS" eval $mode.onnx --data "$decoder/rows.npz" --reference "$decoder/model.onnx" \
    --metric generation --tokens 6 --samples 4 >out 2>/dev/null
  grep -q '^generation [0-9.]* % ([0-9]* of 24), 4 samples$' out
  grep -q '^first difference after ' out
done
grep -q 'planned nodes run in integers: ' messages
# --max-drop is percent of perplexity here.
"$MCOMPRESS" quantize "$decoder/model.onnx" -o held.onnx --mode static $tokens \
  --eval "$decoder/rows.npz" --max-drop 2 --report held.json >/dev/null 2>&1
grep -q '"max_drop": 2' held.json
grep -q '"metric": "perplexity"' held.json
grep -q '"met": true' held.json

# Tables and drift.
"$MCOMPRESS" calibrate "$decoder/model.onnx" -o table.json $tokens 2>/dev/null
"$MCOMPRESS" drift "$decoder/model.onnx" table.json --data "$decoder/rows.npz" >out 2>/dev/null
[[ -s out ]]

# Generation: a model agrees with itself, with keys and values or without.
"$MCOMPRESS" eval "$decoder/no-cache.onnx" --data "$decoder/rows.npz" --metric generation \
  --reference "$decoder/model.onnx" --tokens 8 --samples 5 >out 2>/dev/null
grep -q '^generation 100.00 % (40 of 40), 5 samples$' out
grep -q '^first difference after 8.0 tokens on average, equal throughout 100.00 %$' out
"$MCOMPRESS" bench "$decoder/model.onnx" --generate 6 --against "$decoder/no-cache.onnx" --runs 2 \
  >bench.txt 2>/dev/null
grep -q '^no-cache.onnx .*none: all tokens again *2$' bench.txt
grep -q '^model.onnx .* kept *2$' bench.txt
grep -q '^decode [0-9.]* x faster, prefill [0-9.]* x faster$' bench.txt
"$MCOMPRESS" bench "$decoder/model.onnx" --generate 6 --data "$decoder/rows.npz" --runs 2 --json \
  >bench.json 2>/dev/null
for key in first_token_ms prefill_tokens_per_second decode_tokens_per_second; do
  grep -q "\"$key\"" bench.json
done
# Without data and without --generate: inputs that fit each other.
"$MCOMPRESS" bench "$decoder/model.onnx" --runs 2 >out 2>/dev/null

# What makes no sense: status and sentence.
fails() {
  local wanted=$1 text=$2 status=0
  shift 2
  "$MCOMPRESS" "$@" >out 2>message || status=$?
  [[ $status == "$wanted" && ! -s out ]]
  grep -q -- "$text" message
}
fails 1 'compared with a reference' eval "$decoder/model.onnx" --data "$decoder/rows.npz" \
  --metric generation
fails 2 'are no pairs' eval "$decoder/model.onnx" --data "$decoder/rows.npz" --metric retrieval \
  --samples 3
fails 1 'do not divide into sequences of 7' eval "$decoder/model.onnx" \
  --data "$decoder/rows.npz" --sequence-length 7
fails 1 'no input of token ids' bench "$MCOMPRESS_MODELS/digits/model.onnx" --generate 4
fails 1 'no input of token ids\|no output has the form' eval "$MCOMPRESS_MODELS/digits/model.onnx" \
  --data "$MCOMPRESS_MODELS/digits/eval.npz" --metric perplexity
fails 1 'not measured while tokens' bench "$decoder/model.onnx" --generate 4 --profile

# Dynamic quantization restores layers as static does: half of them for 38 dB, with int8 weights.
dynamic() {
  "$MCOMPRESS" quantize "$decoder/model.onnx" -o dynamic.onnx --mode dynamic --min-elements 1024 \
    --report dynamic.json "$@" >out 2>messages
}
dynamic --calib "$decoder/rows.npz"
grep -q '^13 of 13 planned nodes run in integers' messages
dynamic --calib "$decoder/rows.npz" --min-sqnr 38
grep -q '^mixed precision: [1-9]* of 13 layers back in float32' messages
grep -q 'was restored to float32 for accuracy' messages
grep -q '"met": true' dynamic.json
(( $(stat -c %s dynamic.onnx) * 3 < $(stat -c %s "$decoder/model.onnx") ))
status=0
rm dynamic.onnx
dynamic --calib "$decoder/rows.npz" --min-sqnr 90 || status=$?
[[ $status == 5 && ! -e dynamic.onnx ]]
status=0
dynamic --min-sqnr 30 || status=$?
[[ $status == 1 && ! -e dynamic.onnx ]]
grep -q 'give --calib DATA' messages
