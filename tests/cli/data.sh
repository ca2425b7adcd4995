# Data of every kind: images in class folders, raw files, lists, an input with a path of its own.
model=$MCOMPRESS_MODELS/digits/model.onnx
bmp() {  # OCTAL-VALUE FILE: 28 x 28 pixels of one colour
  mkdir -p "$(dirname "$2")"
  {
    printf 'BM\x66\x09\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x1c\0\0\0\x1c\0\0\0\1\0\x18\0'
    head -c 24 /dev/zero
    head -c 2352 /dev/zero | tr '\0' "\\$1"
  } >"$2"
}
raw() {  # FLOAT-BYTES FILE: 784 floats
  for _ in {1..784}; do printf "$1"; done >"$2"
}
bmp 377 images/0/white.bmp
bmp 000 images/1/black.bmp
raw '\0\0\200\77' white.bin
raw '\0\0\0\0' black.bin
cat white.bin black.bin >both.bin
printf 'file,label\nimages/0/white.bmp,0\nimages/1/black.bmp,1\n' >list.csv

fail() { echo "$*"; exit 9; }
# Three ways to the same numbers: only the digest of the data differs.
values() { sed 's/"data": \[[^]]*\]//' "$1"; }
"$MCOMPRESS" calibrate "$model" --calib images -o images.json -q
"$MCOMPRESS" calibrate "$model" --calib both.bin -o raw.json -q
"$MCOMPRESS" calibrate "$model" --calib list.csv --preprocess crop=28,scale=1/255,channels=gray -o list.json -q
"$MCOMPRESS" calibrate "$model" --input input=images -o input.json -q
cmp <(values images.json) <(values raw.json) || fail "raw files differ from images"
cmp <(values images.json) <(values list.json) || fail "a list differs from a folder"
cmp images.json input.json || fail "--input differs from --calib"
"$MCOMPRESS" calibrate "$model" --calib both.bin --raw 'input=f32[1,1,28,28]' -o - -q | cmp - raw.json
"$MCOMPRESS" calibrate "$model" --calib images -o images.json -v 2>&1 >/dev/null |
  grep -q 'cover 28x28 (bilinear), crop 28x28, gray, x/255, nchw; not asked for but inferred' || fail "no note"

# Labels are the folders, or a column.
"$MCOMPRESS" eval "$model" --data images --json >folders.json
"$MCOMPRESS" eval "$model" --data list.csv --json >listed.json
cmp <(sed 's/"data": "[^"]*"//' folders.json) <(sed 's/"data": "[^"]*"//' listed.json) || fail "labels differ"
grep -q '"decisions": 2' folders.json || fail "no labels"
"$MCOMPRESS" compare "$model" "$model" --data images | grep -q equal
"$MCOMPRESS" bench "$model" --data images --runs 1 --loads 1 >/dev/null
"$MCOMPRESS" inspect "$model" --measure --data images >/dev/null
"$MCOMPRESS" quantize "$model" --calib images --eval input=list.csv -o q.onnx -q
bmp 200 images/1/gray.bmp
"$MCOMPRESS" eval "$model" --data images --balance labels -v 2>&1 | grep -q '2 of 3 samples are taken: 1 of each of 2 labels' ||
  fail "not balanced"

before=$(ls -A)
refused() {  # STATUS TEXT ARGUMENT...
  local wanted=$1 expected=$2 status=0 text
  shift 2
  text=$("$MCOMPRESS" "$@" 2>&1 >/dev/null) || status=$?
  [[ $status == "$wanted" ]] || fail "status $status: $*: $text"
  [[ $(wc -l <<<"$text") == 1 && $text == "mcompress: error: "*"$expected"* ]] || fail "without '$expected': $text"
  [[ $(ls -A) == "$before" ]] || fail "left behind by $*"
}
c=(calibrate "$model" -o out.json)
refused 1 "did you mean 'resize'" "${c[@]}" --calib images --preprocess rezise=3
refused 1 "no element type" "${c[@]}" --calib both.bin --raw 'input=f31[1]'
refused 2 "the file has 6272 bytes" "${c[@]}" --calib both.bin --raw 'input=f32[1,1,28,27]'
refused 1 "no input of this name" "${c[@]}" --input inptu=images
refused 1 "names no input and path" "${c[@]}" --input images
refused 1 "needs a label for each sample" "${c[@]}" --calib both.bin --balance labels
refused 2 "wants 28x28" "${c[@]}" --calib images --preprocess crop=20
refused 1 "three values" "${c[@]}" --calib images --preprocess mean=1,2,3
printf 'GIF89a' >images/1/a.bmp
refused 2 "is a GIF" "${c[@]}" --calib images
head -c 100 images/1/black.bmp >images/1/a.bmp
refused 2 "ends in the middle" "${c[@]}" --calib images -q

# How many samples are enough is found and said; the report has it too.
digits=$MCOMPRESS_MODELS/digits
"$MCOMPRESS" calibrate "$model" --calib "$digits/eval.npz" --samples auto -o auto.json 2>message
grep -q 'samples are enough: ranges hardly move any more' message || fail "did not converge"
grep -q '95 % of ranges' message || fail "convergence is not printed"
"$MCOMPRESS" quantize "$model" --calib "$digits/eval.npz" --samples auto -o auto.onnx --report auto.report -q
grep -q '"convergence"' auto.report || fail "no convergence in the report"
"$MCOMPRESS" quantize "$model" --table auto.json -o table.onnx -q
"$MCOMPRESS" compare auto.onnx table.onnx --data "$digits/calib.npz" --samples 16 >/dev/null
before=$(ls -A)
refused 1 "no number of samples" "${c[@]}" --calib both.bin --samples many
refused 1 "a table has its samples already" quantize "$model" --table auto.json --calib both.bin --samples auto -o out.onnx -q
# Made-up data get a warning, real ones do not.
"$MCOMPRESS" calibrate "$model" --calib both.bin -o - 2>&1 >/dev/null | grep -q 'all elements are equal' || fail "no warning"
"$MCOMPRESS" calibrate "$model" --calib "$digits/calib.npz" --samples 8 -o - 2>&1 >/dev/null | grep -q warning && fail "digits are real"
exit 0
