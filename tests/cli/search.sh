# search gives each layer a form of its own so that limits hold together; the recipe it writes makes
# the same bytes; what can not be had ends with status 5.
digits=$MCOMPRESS_MODELS/digits
model=$digits/model.onnx
calib=$digits/calib.npz
eval=$digits/eval.npz
[[ -e $eval ]] || eval=$calib
size() { stat -c %s "$1"; }
forms=int8,cluster-4,cluster-2

"$MCOMPRESS" search "$model" -o small.onnx --calib "$calib" --eval "$eval" --max-size-ratio 0.16 \
  --forms $forms --evaluations 8 --rank-samples 4 --front front.json --recipe recipe.json \
  --resume memory.json --report report.json 2>message
(( $(size small.onnx) * 100 <= $(size "$model") * 16 ))
grep -q '^front .*bytes .*drop .*SQNR' message
grep -q '^best ' message
grep -q '[0-9.]* of 8 evaluations: [0-9]* choices on all data' message
# No more than was allowed.
awk '/ of 8 evaluations/ { if ($1 > 8) exit 1 }' message
grep -q '"schema": "mcompress-search"' front.json
grep -q '"origin": "knapsack"' front.json
grep -q '"search": {' report.json
# More than one form is in use.
(( $(grep -c '"pass": "\(quantize-weights\|quantize-blocks\|cluster-weights\)"' recipe.json) > 1 ))

# The recipe by itself makes the same model.
"$MCOMPRESS" run recipe.json "$model" -o again.onnx --calib "$calib" 2>message
cmp small.onnx again.onnx
# What is remembered is not done again, and changes nothing.
"$MCOMPRESS" search "$model" -o again.onnx --calib "$calib" --eval "$eval" --max-size-ratio 0.16 \
  --forms $forms --evaluations 8 --rank-samples 4 --front same.json --resume memory.json \
  --jobs 1 2>message
grep -q '[0-9]* choices remembered' message
cmp small.onnx again.onnx
cmp front.json same.json

# Whatever the threads, and with nothing remembered: the same model and the same front.
"$MCOMPRESS" search "$model" -o fresh.onnx --calib "$calib" --eval "$eval" --max-size-ratio 0.16 \
  --forms $forms --evaluations 8 --rank-samples 4 --front other.json --jobs 2 2>message
cmp small.onnx fresh.onnx
cmp front.json other.json

# The other limits: fewest bytes that hold.
"$MCOMPRESS" search "$model" -o close.onnx --calib "$calib" --eval "$eval" --min-sqnr 30 \
  --forms int8,cluster-4 --evaluations 6 --rank-samples 4 --front close.json 2>message
(( $(size close.onnx) < $(size "$model") ))
grep -q '"holds": true' close.json

# The other strategies.
"$MCOMPRESS" search "$model" -o bayes.onnx --calib "$calib" --eval "$eval" --max-size-ratio 0.16 \
  --forms $forms --strategy bayes --evaluations 8 --rank-samples 4 2>message
(( $(size bayes.onnx) * 100 <= $(size "$model") * 16 ))
status=0
"$MCOMPRESS" search "$model" -o brute.onnx --calib "$calib" --max-size-ratio 0.16 --forms $forms \
  --strategy brute --evaluations 12 2>message || status=$?
[[ $status == 1 && ! -e brute.onnx ]]
grep -q 'combinations of forms, and --evaluations allows 12' message

# What can not be had: status 5, nothing written, the nearest named; unless told to.
status=0
"$MCOMPRESS" search "$model" -o missed.onnx --calib "$calib" --max-size-ratio 0.01 --forms int8 \
  --evaluations 4 2>message || status=$?
[[ $status == 5 && ! -e missed.onnx ]]
grep -q 'no choice of forms was found that holds; the nearest has [0-9]* bytes' message
status=0
"$MCOMPRESS" search "$model" -o missed.onnx --calib "$calib" --min-sqnr 190 --forms int8 \
  --max-size-ratio 0.4 --evaluations 4 --write-missed 2>message || status=$?
[[ $status == 5 && -e missed.onnx ]]

# Widths: each has its part of the evaluations, one is chosen, and the recipe cuts as the search did.
"$MCOMPRESS" search "$model" -o narrow.onnx --calib "$calib" --eval "$eval" --min-sqnr 1 \
  --forms int8,cluster-4 --widths 1,0.5 --prefer sqnr --evaluations 8 --rank-samples 4 \
  --front widths.json --recipe narrow.json 2>message
grep -q '^width 1.00.*: [0-9,]* bytes, drop ' message
grep -q '^width 0.50.*: [0-9,]* bytes, drop ' message
(( $(grep -c '^width .*(chosen)' message) == 1 ))
awk '/ of 8 evaluations/ { if ($1 > 8) exit 1 }' message
(( $(grep -c '"width":' widths.json) == 2 ))
# With so little asked for, half of the channels in few bits are the fewest bytes.
grep -q '^width 0.50 (chosen)' message
grep -q '"pass": "prune-channels"' narrow.json
"$MCOMPRESS" run narrow.json "$model" -o again.onnx --calib "$calib" 2>message
cmp narrow.onnx again.onnx
# Where all has to stay as it is, nothing is cut.
"$MCOMPRESS" search "$model" -o wide.onnx --calib "$calib" --eval "$eval" --min-sqnr 30 \
  --forms int8,cluster-4 --widths 0.5,1 --evaluations 8 --rank-samples 4 --recipe wide.json 2>message
grep -q '^width 1.00 (chosen)' message
! grep -q '"pass": "prune-channels"' wide.json

# Usage.
status=0
"$MCOMPRESS" search "$model" -o wrong.onnx --eval "$eval" --max-drop 1 --widths 1,1.5 2>message ||
  status=$?
[[ $status == 1 && ! -e wrong.onnx ]]
grep -q "'1.5' is no width" message
for wrong in '' '--max-drop 1 --forms cluster-9' '--max-drop 1 --forms static' \
  "--max-drop 1 --front $model"; do
  status=0
  # shellcheck disable=SC2086
  "$MCOMPRESS" search "$model" -o wrong.onnx --eval "$eval" $wrong 2>message || status=$?
  [[ $status == 1 && ! -e wrong.onnx ]]
done
echo '{"schema": "something"}' >other.txt
status=0
"$MCOMPRESS" search "$model" -o wrong.onnx --eval "$eval" --max-drop 1 --resume other.txt \
  2>message || status=$?
[[ $status == 2 ]]
grep -q 'no file of --resume' message
