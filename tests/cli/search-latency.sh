# search under --max-latency: times of layers from the runtime's profile are a second budget beside
# the bytes. Which forms are taken depends on the machine; what is checked does not.
digits=$MCOMPRESS_MODELS/digits
model=$digits/model.onnx
calib=$digits/calib.npz
size() { stat -c %s "$1"; }

# Both limits: a ratio that any form keeps.
"$MCOMPRESS" search "$model" -o both.onnx --calib "$calib" --max-latency 10 --max-size-ratio 0.5 \
  --forms int8,cluster-4,static,dynamic --evaluations 6 --rank-samples 2 --front both.json \
  --front-points 0 --recipe recipe.json --resume memory.json 2>message
(( $(size both.onnx) * 2 <= $(size "$model") ))
grep -q "the layers' times predict [0-9.]* of the original's time, measured [0-9.]*" message
grep -q '"predicted_latency": ' both.json
# Of layers as they are, and of forms.
grep -q '"microseconds": [0-9.]*' both.json
awk '/ of 6 evaluations/ { if ($1 > 6) exit 1 }' message

# What was profiled and measured is remembered, and the same is found.
"$MCOMPRESS" search "$model" -o again.onnx --calib "$calib" --max-latency 10 --max-size-ratio 0.5 \
  --forms int8,cluster-4,static,dynamic --evaluations 6 --rank-samples 2 --front again.json \
  --front-points 0 --resume memory.json 2>message
grep -q 'remembered' message
cmp both.onnx again.onnx
cmp both.json again.json
"$MCOMPRESS" run recipe.json "$model" -o recipe.onnx --calib "$calib" 2>message
cmp both.onnx recipe.onnx

# The other strategy keeps both, too.
"$MCOMPRESS" search "$model" -o bayes.onnx --calib "$calib" --max-latency 10 --max-size-ratio 0.5 \
  --strategy bayes --forms int8,static --evaluations 4 --rank-samples 2 2>message
(( $(size bayes.onnx) * 2 <= $(size "$model") ))

# A limit that the model keeps as it is asks for nothing.
status=0
"$MCOMPRESS" search "$model" -o as-it-is.onnx --calib "$calib" --max-latency 10 --forms int8 \
  --evaluations 3 --rank-samples 2 2>message || status=$?
[[ $status == 3 && ! -e as-it-is.onnx ]]

# What no form can keep: the nearest is named, nothing written.
status=0
"$MCOMPRESS" search "$model" -o fast.onnx --calib "$calib" --max-latency 0.0001 \
  --forms int8,static --evaluations 3 --rank-samples 2 2>message || status=$?
[[ $status == 5 && ! -e fast.onnx ]]
grep -q "the nearest has [0-9.]* of the original's time; asked for: --max-latency 0.000" message

# Needs data.
status=0
"$MCOMPRESS" search "$model" -o fast.onnx --eval "$calib" --max-latency 0.5 2>message || status=$?
[[ $status == 1 ]]
grep -q 'form static needs calibration data' message

# Ctrl-C as soon as there is something to remember: status 130, nothing written; the same command
# goes on from there. With --anytime it may have found something that holds.
rm -f kept.json
set -m  # else the shell has the command ignore the signal
"$MCOMPRESS" search "$model" -o stopped.onnx --calib "$calib" --max-size-ratio 0.3 \
  --evaluations 100000 --rank-samples 64 --resume kept.json 2>message &
pid=$!
set +m
for (( i = 0; i < 3000; ++i )); do
  [[ -s kept.json ]] && break
  sleep 0.02
done
kill -INT $pid
status=0
wait $pid || status=$?
[[ $status == 130 && ! -e stopped.onnx ]]
grep -q 'anytime writes the best so far' message
"$MCOMPRESS" search "$model" -o stopped.onnx --calib "$calib" --max-size-ratio 0.3 \
  --forms int8,cluster-4 --evaluations 8 --rank-samples 4 --resume kept.json 2>message
[[ -e stopped.onnx ]]
