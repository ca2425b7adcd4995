# The graph after each pass, numbered on through the rounds of a recipe that is repeated.
model=$MCOMPRESS_MODELS/digits/model.onnx
"$MCOMPRESS" optimize "$model" -o out.onnx --dump-passes dumps -q
passes=$("$MCOMPRESS" optimize "$model" --print-recipe | grep -c '"pass":')
files=$(find dumps -name '*.txt' | wc -l)
((passes > 5 && files > passes && files % passes == 0)) || { echo "$files dumps of $passes passes"; exit 9; }
[[ -s dumps/01-pin-inputs.txt ]]
printf -v again 'dumps/%02d-pin-inputs.txt' $((passes + 1))
[[ -s $again ]]
# The first pass of the second round saw what the first round had left.
cmp "$again" "$(printf 'dumps/%02d-eliminate-dead.txt' "$passes")"
cmp -s "$again" dumps/01-pin-inputs.txt && exit 9
status=0
echo file >taken
"$MCOMPRESS" optimize "$model" -o none.onnx --dump-passes taken -q 2>message || status=$?
[[ $status == 4 && ! -e none.onnx ]]
grep -q 'taken/01-pin-inputs.txt' message
