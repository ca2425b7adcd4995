# The page in a real browser: no message on the console, script and style run, nothing is asked of the network.
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[[ -n $browser ]] || { echo "no chromium" >&2; exit 0; }
digits=$MCOMPRESS_MODELS/digits
"$MCOMPRESS" quantize "$digits/model.onnx" -o int8.onnx --calib "$digits/calib.npz" --report int8.json -q
"$MCOMPRESS" report int8.onnx --reference "$digits/model.onnx" --run-report int8.json --eval "$digits/eval.npz" -o page.html -q
run() {
  HOME=$PWD/home timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars \
    --user-data-dir="$PWD/profile" --enable-logging=stderr "$@" "file://$PWD/${page:-page.html}"
}
run --dump-dom >dom.html 2>log
if grep CONSOLE log; then exit 9; fi
# The script was allowed by its digest: it made buttons for sorting and the filter.
grep -q '<button type="button"' dom.html
grep -q 'class="filter"' dom.html
for size in 1280,1600 390,1600; do
  run --window-size="$size" --screenshot="$PWD/shot-$size.png" >/dev/null 2>log
  if grep CONSOLE log; then exit 9; fi
  [[ $(stat -c %s "shot-$size.png") -gt 20000 ]]
done

# A batch with data: quality and latency of each model, and what was lost over what was saved.
mkdir zoo
cp "$digits/model.onnx" zoo/plain.onnx
"$MCOMPRESS" convert-opset "$digits/model.onnx" -o zoo/newer.onnx --to 19 -q
head -c 1000 "$digits/model.onnx" >zoo/broken.onnx
cp "$digits/calib.npz" "$digits/eval.npz" .
printf 'data: {calib: calib.npz, eval: eval.npz}\npasses:\n  - recipe: quantize-static\n' >data.yaml
"$MCOMPRESS" batch zoo data.yaml -o out --json >lines.jsonl 2>/dev/null || true
[[ $(grep -c '"quality": .*"latency_before_ms": .*"latency_ms": ' lines.jsonl) == 2 ]]
"$MCOMPRESS" report out -o batch.html -q
page=batch.html
run --dump-dom >dom.html 2>log
if grep CONSOLE log; then exit 9; fi
[[ $(grep -o 'top1 [0-9.]* % ([-+][0-9.]*)' dom.html | wc -l) == 2 ]]
[[ $(grep -o '[0-9.]* ms ([0-9.]* x)' dom.html | wc -l) == 2 ]]
grep -q 'class="state-failed"' dom.html
# Two plots with a point for each model that was done.
[[ $(grep -o '<figcaption>' dom.html | wc -l) == 2 && $(grep -o '<circle ' dom.html | wc -l) == 4 ]]
run --window-size=1280,1600 --screenshot="$PWD/batch.png" >/dev/null 2>log
if grep CONSOLE log; then exit 9; fi
[[ $(stat -c %s batch.png) -gt 20000 ]]
