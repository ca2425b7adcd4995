# Pages, Markdown, JSON, tracker folders and events of runs, of a batch and of a front.
digits=$MCOMPRESS_MODELS/digits
absent() { if grep "$@"; then echo "is there: $*"; exit 9; fi; }
model=$digits/model.onnx
"$MCOMPRESS" quantize "$model" -o int8.onnx --calib "$digits/calib.npz" --report int8.json -q
"$MCOMPRESS" quantize "$model" -o wo.onnx --mode weight-only --eval "$digits/eval.npz" --report wo.json --times -q
"$MCOMPRESS" report int8.onnx --reference "$model" --run-report int8.json --eval "$digits/eval.npz" -o page.html -q
"$MCOMPRESS" report int8.onnx --reference "$model" --run-report int8.json --eval "$digits/eval.npz" --threads 2 -o again.html -q
cmp page.html again.html
for id in results layers weights activations operators decisions provenance; do
  grep -q "<h2 id=\"$id\">" page.html || { echo "no section $id"; exit 9; }
done
# Nothing is loaded: no address but the name of the XML namespace, no reference to a file, and a policy that forbids it.
grep -o 'https\?://[^"]*' page.html | sort -u >addresses
[[ $(cat addresses) == http://www.w3.org/1999/xhtml ]]
absent -qE ' src=|<link|@import|url\(' page.html
grep -q "default-src 'none'; .*script-src 'sha256-[A-Za-z0-9+/]*='" page.html
# Well-formed, where there is something to tell.
if command -v xmllint >/dev/null; then xmllint --noout page.html; fi
grep -oE '(points|cx|cy|width|data-value)="[^"]*"' page.html >numbers
absent -E 'nan|inf' numbers
# The figures of the run.
grep -q 'id="quality-title"' page.html
"$MCOMPRESS" report int8.onnx --reference "$model" --run-report int8.json --eval "$digits/eval.npz" --json >page.json
bytes=$(stat -c %s int8.onnx)
grep -q "\"bytes_after\": $bytes" page.json
grep -q '"schema": "mcompress-page"' page.json
grep -q '"own_db"' page.json
grep -q '"histogram"' page.json
# A weight of int8 is seen as the floats it stands for.
sed -n '/"weights": \[/,/"activation_samples"/p' page.json | grep -q '"sqnr_db": [34]'
# Several runs of one model: the original and both.
"$MCOMPRESS" report int8.json wo.json -o runs.md -q
grep -q '(original)' runs.md
[[ $(grep -c '^| .*onnx' runs.md) == 3 ]]
# A front, as `search --front` writes it.
echo '{"metric": "top1", "input_bytes": 1000, "points": [{"bytes": 500, "drop": 0.5, "latency": 0.8, "origin": "a"},
 {"bytes": 300, "drop": 1.5, "latency": 0.7}, {"bytes": 400, "drop": 2.5, "latency": 0.9}]}' >front.json
"$MCOMPRESS" report --front front.json -o front.html -q
[[ $(grep -o '<circle class="point"' front.html | wc -l) == 2 ]]
[[ $(grep -o '<circle class="plain"' front.html | wc -l) == 4 ]]
# A batch, with a model that failed.
mkdir -p zoo && cp "$model" zoo/a.onnx && head -c 1000 "$model" >zoo/b.onnx
"$MCOMPRESS" batch zoo smallest-file -o out -q 2>/dev/null || true
"$MCOMPRESS" report out -o batch.html -q
grep -q '>a.onnx<' batch.html
grep -q 'class="state-failed"' batch.html
grep -q '1 failed' batch.html
"$MCOMPRESS" report out/.mcompress-batch/journal-1-of-1.jsonl --json >batch.json
grep -q '"batch": true' batch.json
# Names are text. This one wants to be a script.
cp int8.json evil.json
sed -i '0,/"subject": "/s//"subject": "<script>alert(1)<\/script>\&\\u0001 /' evil.json
"$MCOMPRESS" report evil.json -o evil.html -q
[[ $(grep -c '<script' evil.html) == 1 ]]
grep -q '&lt;script&gt;alert(1)&lt;/script&gt;&amp;' evil.html
# MLflow's file store: twice the same run is one run; the same experiment is found again.
"$MCOMPRESS" report wo.json --mlflow mlruns --experiment digits --events events.jsonl -q
"$MCOMPRESS" report wo.json --mlflow mlruns --experiment digits -q
[[ $(ls mlruns | wc -l) == 1 ]]
[[ $(ls -A mlruns) != *unfinished* ]]
run=$(dirname "$(ls mlruns/*/*/meta.yaml)")
grep -q '^status: 3$' "$run/meta.yaml"
grep -q '^start_time: 0$' "$run/meta.yaml"
[[ $(cut -d' ' -f1,3 "$run/metrics/top1") == "0 0" ]]
[[ $(cut -d. -f1 "$run/params/command") == quantize ]]
[[ $(cat "$run/tags/mlflow.source.name") == mcompress ]]
[[ -s $run/artifacts/report.html ]]
[[ $(head -n 1 events.jsonl) == *run-started* ]]
[[ $(tail -n 1 events.jsonl) == *run-finished* ]]
grep -q '"event": "metric"' events.jsonl
absent -q time_ms events.jsonl
# What can not be.
fails() {
  local want=$1 status=0; shift
  "$MCOMPRESS" report "$@" >/dev/null 2>message || status=$?
  [[ $status == "$want" ]] || { echo "$status, not $want: $*"; cat message; exit 9; }
}
fails 1 -o x.html
fails 1 int8.onnx
fails 1 int8.onnx zoo/a.onnx -o x.html
fails 1 int8.json --eval "$digits/eval.npz" -o x.html
fails 1 int8.onnx -o int8.onnx
fails 2 missing.onnx -o x.html
fails 2 zoo -o x.html
fails 2 front.json -o x.html
fails 4 int8.json -o missing/x.html
[[ ! -e x.html ]]
# A form there is none of is no page under another name.
status=0
"$MCOMPRESS" report front.json -o page.pdf 2>message || status=$?
[[ $status == 1 && ! -e page.pdf ]] && grep -q "no reports as '.pdf' (.html, .md or .json" message
