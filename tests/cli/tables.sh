# Tables: merged where they belong together, refused where they do not fit; nothing is written then.
digits=$MCOMPRESS_MODELS/digits
model=$digits/model.onnx
"$MCOMPRESS" calibrate "$model" --calib "$digits/calib.npz" --samples 16 -o one.json -q
"$MCOMPRESS" calibrate "$model" --calib "$digits/eval.npz" --samples 16 -o two.json -q
"$MCOMPRESS" calibrate --merge one.json two.json -o both.json 2>message
grep -q 'on 32 samples' message
"$MCOMPRESS" calibrate one.json two.json --merge -o - -q | cmp - both.json
"$MCOMPRESS" quantize "$model" -o both.onnx --table both.json -q
"$MCOMPRESS" compare "$model" both.onnx --data "$digits/calib.npz" --samples 16 >/dev/null
# Each data set is named in the result.
for table in one two; do
  digest=$(sed -n 's/.*"data": \["\([0-9a-f]*\)"\].*/\1/p' "$table.json")
  [[ -n $digest ]] && grep -q "$digest" both.onnx || { echo "digest of $table"; exit 9; }
done

before=$(ls -A)
refused() {  # STATUS TEXT ARGUMENT...
  local wanted=$1 expected=$2 status=0 text
  shift 2
  text=$("$MCOMPRESS" "$@" 2>&1 >/dev/null) || status=$?
  [[ $status == "$wanted" ]] || { echo "status $status: $*: $text"; exit 9; }
  [[ $(wc -l <<<"$text") == 1 && $text == "mcompress: error: "*"$expected"* ]] ||
    { echo "without '$expected': $text"; exit 9; }
  [[ $(ls -A) == "$before" ]] || { echo "left behind by $*"; ls -A; exit 9; }
}
refused 2 "both tables have seen the data" calibrate --merge one.json one.json -o out.json
refused 2 "one.json" calibrate --merge both.json one.json -o out.json
refused 1 "two or more tables" calibrate --merge one.json -o out.json
refused 1 "--merge" calibrate --merge one.json two.json --calib "$digits/calib.npz" -o out.json
refused 1 "unexpected argument" calibrate one.json two.json --calib "$digits/calib.npz" -o out.json
refused 1 "calibration data is missing" calibrate "$model" -o out.json
refused 1 "the output is missing" calibrate "$model" --calib "$digits/calib.npz"
refused 1 "did you mean 'generic-qdq'" \
  calibrate "$model" --calib "$digits/calib.npz" --target generic-qd -o out.json
refused 2 "model.onnx" calibrate --merge one.json "$model" -o out.json
# Of another model: a stale table would give wrong numbers, not worse ones.
sed 's/"model": "\([0-9a-f]\)/"model": "'"$(sed -n 's/.*"model": "\([0-9a-f]\).*/\1/p' one.json | tr 0-9a-f 1-9a-f0)"'/' \
  one.json >stale.json
before=$(ls -A)
refused 1 "made from another model" quantize "$model" -o out.onnx --table stale.json -q
refused 2 "different models" calibrate --merge two.json stale.json -o out.json
