# Graphs as Graphviz text, and as pictures where its program is installed.
digits=$MCOMPRESS_MODELS/digits/model.onnx
"$MCOMPRESS" inspect "$digits" --dot graph.dot >text
head -1 graph.dot | grep -q '^digraph model {'
grep -q 'Conv\\n/stem/Conv\\nfloat32 \[16, 1, 3, 3\]' graph.dot
[[ -s text ]]
"$MCOMPRESS" inspect "$digits" --dot - | cmp - graph.dot
# Stand-ins for the program: one that draws, one that fails, none at all.
mkdir draws fails none
program=$(command -v cat)
printf '#!/bin/sh\n[ "$1" = -Tsvg ] || exit 1\necho "<svg>"\n%s\n' "$program" >draws/dot
printf '#!/bin/sh\nexit 1\n' >fails/dot
chmod +x draws/dot fails/dot
PATH=$PWD/draws:$PATH "$MCOMPRESS" inspect "$digits" --svg graph.svg >/dev/null
head -1 graph.svg | grep -q '<svg>'
tail -n +2 graph.svg | cmp - graph.dot
status=0
PATH=$PWD/none "$MCOMPRESS" inspect "$digits" --svg none.svg >stdout 2>message || status=$?
[[ $status == 3 && ! -e none.svg && ! -s stdout ]] || { echo "status $status"; exit 9; }
grep -q 'apt-get install graphviz' message
status=0
PATH=$PWD/fails:$PATH "$MCOMPRESS" diff "$digits" "$digits" --svg none.svg >stdout 2>message || status=$?
[[ $status == 70 && ! -e none.svg && ! -s stdout ]] || { echo "status $status"; exit 9; }
grep -q -- '--dot FILE' message
# Ended with the program.
printf '#!/bin/sh\necho $$ >%s/pid\nexec sleep 100\n' "$PWD" >fails/dot
PATH=$PWD/fails:$PATH "$MCOMPRESS" inspect "$digits" --svg none.svg >stdout 2>message &
waited=$!
for _ in {1..200}; do [[ -s pid ]] && break; sleep 0.05; done
kill -TERM "$waited"
status=0
wait "$waited" || status=$?
[[ $status == 130 && ! -e none.svg ]] || { echo "status $status"; exit 9; }
for _ in {1..100}; do kill -0 "$(cat pid)" 2>/dev/null || break; sleep 0.05; done
kill -0 "$(cat pid)" 2>/dev/null && { echo 'dot goes on'; exit 9; }
# Both models in one graph; what is gone is red.
"$MCOMPRESS" optimize "$digits" -o out.onnx -q
"$MCOMPRESS" diff "$digits" out.onnx --dot diff.dot >/dev/null
grep -q 'f6c6c6' diff.dot
"$MCOMPRESS" diff "$digits" out.onnx --dot - | cmp - diff.dot
# A file that is read is not drawn over.
cp out.onnx keep.onnx
status=0
"$MCOMPRESS" diff "$digits" out.onnx --svg out.onnx 2>message || status=$?
[[ $status == 1 ]]
cmp out.onnx keep.onnx
# Where the real program is there, it takes the text of every model.
command -v dot >/dev/null || exit 0
for model in "$MCOMPRESS_FIXTURES"/*.onnx; do
  "$MCOMPRESS" inspect "$model" --svg graph.svg >/dev/null
done
