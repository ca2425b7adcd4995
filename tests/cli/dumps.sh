# The graph after each pass: once for each pass, and again where a repetition changed something.
model=$MCOMPRESS_MODELS/digits/model.onnx
"$MCOMPRESS" optimize "$model" -o out.onnx --dump-passes dumps --report report.json -q
passes=$("$MCOMPRESS" optimize "$model" --print-recipe | grep -c '"pass":')
files=$(find dumps -name '*.txt' | wc -l)
runs=$(grep -c '"changed":' report.json)
((passes > 5 && files >= passes && files == runs)) || { echo "$files dumps, $passes passes, $runs runs"; exit 9; }
[[ -s $(ls dumps/*-lift-constants.txt) ]]
# The numbers have no gaps.
for ((i = 1; i <= files; ++i)); do
  [[ -s $(printf 'dumps/%02d-*.txt' "$i" | xargs -I{} bash -c 'ls {}') ]] || { echo "no dump $i"; exit 9; }
done
status=0
echo file >taken
"$MCOMPRESS" optimize "$model" -o none.onnx --dump-passes taken -q 2>message || status=$?
[[ $status == 4 && ! -e none.onnx ]]
grep -q 'taken: the folder can not be made' message
