# A recipe over a folder: a failing model stops no other, finished work is not redone, shares are disjoint.
digits=$MCOMPRESS_MODELS/digits
mkdir -p zoo/deep
for i in 1 2 3 4 5 6; do cp "$digits/model.onnx" "zoo/m$i.onnx"; done
cp "$digits/model.onnx" zoo/deep/m.onnx
"$MCOMPRESS" run smallest-file "$digits/model.onnx" -o single.onnx -q
"$MCOMPRESS" batch zoo smallest-file -o out --json >lines.jsonl 2>/dev/null
[[ $(wc -l <lines.jsonl) == 7 && -e out/deep/m.onnx ]]
for i in 1 2 3 4 5 6; do cmp single.onnx "out/m$i.onnx"; done
# Nothing is done twice; what was changed is done again, alone.
"$MCOMPRESS" batch zoo smallest-file -o out -q
[[ $(wc -l <out/.mcompress-batch/journal-1-of-1.jsonl) == 7 ]]
rm out/m3.onnx
"$MCOMPRESS" batch zoo smallest-file -o out -q
[[ $(wc -l <out/.mcompress-batch/journal-1-of-1.jsonl) == 8 ]] && cmp single.onnx out/m3.onnx
# Random kill -9: every output as if nothing had happened, no model finished twice.
RANDOM=7
for _ in 1 2 3 4 5 6 7 8 9 10; do
  "$MCOMPRESS" batch zoo smallest-file -o killed --jobs 2 -q & pid=$!
  sleep "0.0$((RANDOM % 9 + 1))"
  kill -9 "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  sleep 0.3  # children end with their parent
done
"$MCOMPRESS" batch zoo smallest-file -o killed -q
for i in 1 2 3 4 5 6; do cmp single.onnx "killed/m$i.onnx"; done
[[ $(grep '"status": 0' killed/.mcompress-batch/journal-1-of-1.jsonl | grep -o '"job": "[^"]*"' | sort | uniq -d | wc -l) == 0 ]]
# Shares, and their sum.
"$MCOMPRESS" batch zoo smallest-file -o shared --shard 1/2 -q
"$MCOMPRESS" batch zoo smallest-file -o shared --shard 2/2 -q
"$MCOMPRESS" batch zoo smallest-file -o shared --merge -q
# A share that is missing is no failure of a model; its models are named, by the report too.
"$MCOMPRESS" batch zoo smallest-file -o half --shard 1/2 -q
status=0
"$MCOMPRESS" batch zoo smallest-file -o half --merge 2>message || status=$?
[[ $status == 2 ]] && grep -q ': 3 of 7 models were not run (' message
! grep -q failed message
(( $(grep -c '^m[1-6].onnx  *not run' message) + $(grep -c '^deep/m.onnx  *not run' message) == 3 ))
head -1 half/.mcompress-batch/journal-1-of-2.jsonl >first
mv first half/.mcompress-batch/journal-1-of-2.jsonl
"$MCOMPRESS" report half -o half.md -q
[[ $(grep -c 'was not run: the batch did not come to its end' half.md) == 3 ]]
# No folder, and nothing is made for it.
status=0
"$MCOMPRESS" batch nowhere smallest-file -o none 2>message || status=$?
[[ $status == 2 && ! -e none ]] && grep -q 'nowhere: there is no such file or folder' message
# A model that is none.
head -c 1000 "$digits/model.onnx" >zoo/broken.onnx
status=0
"$MCOMPRESS" batch zoo smallest-file -o out 2>message || status=$?
[[ $status == 2 ]] && grep -q '1 of 8 models failed' message && grep -q '^broken.onnx  *failed' message
# Why is said below the table, whose columns stay narrow.
grep -q '^broken.onnx: zoo/broken.onnx: byte ' message
grep -q '^m1.onnx .\{0,30\} x$' message
# Journals nobody wrote.
echo '{"job": 3}' >out/.mcompress-batch/journal-1-of-1.jsonl
status=0
"$MCOMPRESS" batch zoo smallest-file -o out 2>message || status=$?
[[ $status == 2 ]] && grep -q 'journal-1-of-1.jsonl:1' message
