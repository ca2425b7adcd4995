# The page in a real browser: no message on the console, script and style run, nothing is asked of the network.
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[[ -n $browser ]] || { echo "no chromium" >&2; exit 0; }
digits=$MCOMPRESS_MODELS/digits
"$MCOMPRESS" quantize "$digits/model.onnx" -o int8.onnx --calib "$digits/calib.npz" --report int8.json -q
"$MCOMPRESS" report int8.onnx --reference "$digits/model.onnx" --run-report int8.json --eval "$digits/eval.npz" -o page.html -q
run() {
  HOME=$PWD/home timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars \
    --user-data-dir="$PWD/profile" --enable-logging=stderr "$@" "file://$PWD/page.html"
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
