# sensitivity ranks layers and writes a file that `quantize --exclude @FILE` takes; --min-sqnr and
# --max-drop restore layers, and end with status 5 where nothing is good enough.
digits=$MCOMPRESS_MODELS/digits
model=$digits/model.onnx
calib=$digits/calib.npz
eval=$digits/eval.npz
[[ -e $eval ]] || eval=$calib

# The table: a header, a line per layer, the cost on stderr.
"$MCOMPRESS" sensitivity "$model" --calib "$calib" --rank-samples 2 >table 2>message
head -1 table | grep -q '^layer .*operator .*SQNR .*KL .*own SQNR .*weights'
(( $(grep -c ' dB' table) > 10 ))
grep -q '[0-9]* layers on 2 samples: [0-9.]* runs of the model per sample' message
grep -q 'all layers in integers: [0-9.]* dB' message

# The file: what is asked for decides which lines count, and it holds when it is used.
all=$(sed -n 's/.*all layers in integers: \([0-9]*\).*/\1/p' message)
want=$((all + 3))
"$MCOMPRESS" sensitivity "$model" --calib "$calib" --rank-samples 2 --min-sqnr $want \
  -o exclude.txt --json >ranking.json 2>message
grep -q '"holds": true' ranking.json
grep -q '"own_sqnr_db"' ranking.json
kept=$(grep -vc '^#' exclude.txt)
(( kept > 0 && kept < 12 ))
grep -q '^# 1: ' exclude.txt
"$MCOMPRESS" quantize "$model" --calib "$calib" -o kept.onnx --exclude @exclude.txt \
  --report kept.json 2>message
(( $(grep -c "excluded by '" kept.json) >= kept ))
sqnr=$(sed -n 's/^SQNR of [a-z]* *\([0-9]*\).*/\1/p' message)
(( sqnr >= want ))
# Twice the same bytes.
"$MCOMPRESS" sensitivity "$model" --calib "$calib" --rank-samples 2 --min-sqnr $want \
  -o again.txt --jobs 1 >/dev/null 2>&1
cmp exclude.txt again.txt

# The other modes rank their weights.
"$MCOMPRESS" sensitivity "$model" --calib "$calib" --mode weight-only --rank-samples 2 >table 2>message
(( $(grep -c ' dB' table) > 8 ))
"$MCOMPRESS" sensitivity "$model" --calib "$calib" --mode dynamic --min-elements 64 \
  --rank-samples 2 --metric kl >table 2>message
grep -q 'Gemm' table
status=0
"$MCOMPRESS" sensitivity "$model" --calib "$calib" --mode dynamic >table 2>message || status=$?
[[ $status == 3 && ! -s table ]]
grep -q 'mode dynamic quantizes no layer' message
# The modes that would do something are named.
grep -Eq 'try --mode static, which quantizes [0-9]+ layers, or --mode weight-only, which quantizes [0-9]+ layers' \
  message

# Restoring without a file.
"$MCOMPRESS" quantize "$model" --calib "$calib" -o restored.onnx --min-sqnr $want \
  --report restored.json 2>message
grep -q '"met": true' restored.json
grep -q 'restored for accuracy: ' restored.json
grep -q 'mixed precision: [0-9]* of [0-9]* layers' message
"$MCOMPRESS" quantize "$model" --calib "$calib" --eval "$eval" -o drop.onnx --max-drop 2 \
  --report drop.json 2>message
grep -q '"met": true' drop.json

# What can not be had: status 5, nothing written, the best figure named; unless told to.
status=0
"$MCOMPRESS" quantize "$model" --calib "$calib" -o missed.onnx --min-sqnr 150 2>message || status=$?
[[ $status == 5 && ! -e missed.onnx ]]
grep -q 'the best that was found has [0-9.]* dB, and --min-sqnr asks for 150.0 dB' message
status=0
"$MCOMPRESS" quantize "$model" --calib "$calib" -o missed.onnx --min-sqnr 150 --write-missed \
  2>message || status=$?
[[ $status == 5 && -s missed.onnx ]]
grep -q 'written nevertheless' message
status=0
"$MCOMPRESS" sensitivity "$model" --calib "$calib" --rank-samples 1 --min-sqnr 150 >table 2>message ||
  status=$?
[[ $status == 5 ]]
(( $(grep -c ' dB' table) > 10 ))

# Usage.
for arguments in "" "--calib $calib --metric loss" "--calib $calib --max-drop -1" \
  "--calib $calib --json -o -"; do
  status=0
  # shellcheck disable=SC2086
  "$MCOMPRESS" sensitivity "$model" $arguments >out 2>message || status=$?
  [[ $status == 1 && ! -s out ]]
done
status=0
"$MCOMPRESS" quantize "$model" --calib "$calib" -o x.onnx --exclude @missing.txt 2>message || status=$?
[[ $status == 2 && ! -e x.onnx ]]
grep -q missing.txt message
