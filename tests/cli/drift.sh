# drift: the data a table was made from do not drift, others do, and a limit is a gate.
digits=$MCOMPRESS_MODELS/digits
model=$digits/model.onnx
fail() { echo "$*"; exit 9; }
"$MCOMPRESS" calibrate "$model" --calib "$digits/calib.npz" -o table.json --samples 200 -q
"$MCOMPRESS" drift "$model" table.json --data "$digits/calib.npz" --samples 200 --max-psi 0.0001 >same
grep -q '^stable: the ranges hold for the new data' same || fail "the same data drift"
# Other digits are the same kind of data.
"$MCOMPRESS" drift "$model" table.json --data "$digits/eval.npz" --samples 200 >other
grep -q '^recalibrate' other && fail "other digits drift"
# White pages are not.
for _ in {1..3136}; do printf '\0\0\200\77'; done >white.bin
"$MCOMPRESS" drift "$model" table.json --data white.bin --top 3 >white
grep -q '^recalibrate: the new data leave the ranges of' white || fail "white pages do not drift"
grep -q 'more (--top)' white || fail "all values are listed"
"$MCOMPRESS" drift "$model" table.json --data white.bin --json >white.json
grep -q '"verdict": "recalibrate"' white.json || fail "no verdict"
status=0
"$MCOMPRESS" drift "$model" table.json --data white.bin --max-psi 0.25 >gated 2>message || status=$?
[[ $status == 5 ]] || fail "status $status"
grep -q -- '--max-psi allows 0.25' message || fail "no reason"
cmp gated <("$MCOMPRESS" drift "$model" table.json --data white.bin) || fail "the gate changes the table"
sed 's/"model": "\(.\)/"model": "'"$(sed -n 's/.*"model": "\(.\).*/\1/p' table.json | tr 0-9a-f 1-9a-f0)"'/' table.json >stale.json
status=0
"$MCOMPRESS" drift "$model" stale.json --data white.bin 2>message || status=$?
[[ $status == 2 ]] && grep -q 'made from another model' message || fail "a stale table is taken: $status"
