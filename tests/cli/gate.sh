# A model against a committed baseline: what passes, what is caught, what is refused, and the files that say so.
digits=$MCOMPRESS_MODELS/digits
spoil=$MCOMPRESS_FIXTURES/spoil_model
"$MCOMPRESS" quantize "$digits/model.onnx" -o int8.onnx --calib "$digits/calib.npz" 2>/dev/null

gate() {  # MODEL [flag...]
  local model=$1
  shift
  "$MCOMPRESS" gate "$model" --baseline gate.json --reference "$digits/model.onnx" \
    --eval "$digits/eval.npz" --samples 400 "$@"
}
# Runs a command that must end with STATUS; stdout and stderr are kept in out and message.
ends() {  # STATUS COMMAND...
  local expected=$1 status=0
  shift
  "$@" >out 2>message || status=$?
  [[ $status == "$expected" ]] || { echo "$*: status $status, not $expected" >&2; cat out message >&2; false; }
}
verdict() {  # ID, of out as JSON
  grep -A5 "\"id\": \"$1\"" out | sed -n 's/.*"verdict": "\(.*\)".*/\1/p'
}

# Without a baseline: status 2, the hint, and nothing is written.
ends 2 gate int8.onnx --junit none.xml --markdown none.md
grep -q 'gate.json: there is no such file (`--update` writes the baseline)' message
[[ ! -e gate.json && ! -e none.xml && ! -e none.md ]]
ends 1 "$MCOMPRESS" gate int8.onnx
grep -q -- '--baseline' message

# The baseline: the same bytes whenever it is written, and stable keys.
ends 0 gate int8.onnx --update --recipe server-int8
grep -q '^gate.json: written$' out
cp gate.json first.json
ends 0 gate int8.onnx --update --recipe server-int8
grep -q '^gate.json: written anew$' out
cmp gate.json first.json
for key in '"schema": "mcompress-baseline"' '"version": 1' '"file": "model.onnx"' \
  '"file": "server-int8"' '"file_bytes":' '"planned_bytes":' '"com.microsoft:QLinearAdd":\|"QLinearConv":\|"com.microsoft:QLinearConv":' \
  '"sketch": \[' '"own_db": {' '"0": "[0-9]*/[0-9]*"'; do
  grep -q "$key" gate.json
done
if grep -q "$digits" gate.json; then false; fi  # no folders

# An unchanged build passes, every time, with a table.
for _ in 1 2 3 4 5; do
  ends 0 gate int8.onnx
  grep -q '^passed: 10 checks$' out
done
"$MCOMPRESS" quantize "$digits/model.onnx" -o again.onnx --calib "$digits/calib.npz" 2>/dev/null
ends 0 gate again.onnx

# One layer's scale 10 % too large, whichever layer it is; once without that of its bias.
weights=$("$spoil" int8.onnx weights)
[[ $weights -ge 3 ]]
for ((i = 0; i <= weights; ++i)); do
  if ((i < weights)); then "$spoil" int8.onnx spoilt.onnx gain "$i"; else "$spoil" int8.onnx spoilt.onnx scale 0; fi
  ends 5 gate spoilt.onnx --json
  [[ $(verdict likeness) == missed && $(verdict layers) == missed ]]
  [[ $(verdict file-bytes) == passed ]]
done
grep -q 'error: spoilt.onnx: missed: outputs as recorded' message
# One class lost, 5 % more bytes.
"$spoil" int8.onnx lost.onnx class 3
ends 5 gate lost.onnx --junit gate.xml --markdown gate.md
grep -q '^class that lost most .* 3: 0.00 % .*MISSED$' out
grep -q '^class 3: .* -> 0.00 % of ' out
"$spoil" int8.onnx fat.onnx bytes 5
ends 5 gate fat.onnx --json
[[ $(verdict file-bytes) == missed && $(verdict weight-bytes) == missed ]]
[[ $(verdict likeness) == passed && $(verdict quality) == passed && $(verdict layers) == passed ]]

# JUnit and Markdown of the lost class.
[[ $(head -c 38 gate.xml) == '<?xml version="1.0" encoding="UTF-8"?>' ]]
cases=$(grep -c '<testcase ' gate.xml)
failures=$(grep -c '<failure message="' gate.xml)
[[ $cases == $(grep -c '</testcase>' gate.xml) && $failures -ge 3 ]]
grep -q "<testsuite name=\"lost.onnx\" tests=\"$cases\" failures=\"$failures\" errors=\"0\" skipped=\"0\"" gate.xml
grep -q '<failure message="class 3 lost [0-9.]* points, and --max-class-drop allows 10" type="gate-missed">' gate.xml
grep -q '^### mcompress gate: lost.onnx$' gate.md
grep -q "^\*\*missed: $failures of 1[0-9] checks\*\* against gate.json$" gate.md
grep -q '^| class that lost most | .* | 3: 0.00 % | -10 points | \*\*missed\*\* |$' gate.md

# Limits: flags go before the baseline's, and --update keeps what was said.
ends 0 gate fat.onnx --max-bytes-growth 10%
ends 5 gate int8.onnx --max-bytes 1kB
grep -q 'and --max-bytes allows 1,000' out
ends 0 gate int8.onnx --update --max-bytes-growth 10% --min-sqnr 10
grep -q '"max-bytes-growth": "10%"' gate.json
ends 0 gate fat.onnx
ends 0 gate fat.onnx --update
grep -q '"max-bytes-growth": "10%"' gate.json
grep -q '"min-sqnr": "10"' gate.json
# What holds whatever the baseline was is no matter of --update.
cp gate.json kept.json
ends 5 gate int8.onnx --update --min-sqnr 500
cmp gate.json kept.json
ends 1 gate int8.onnx --max-drop lots
grep -q -- "--max-drop: expects points" message
cp first.json gate.json
# --update accepts a model, and says what changed.
ends 0 gate lost.onnx --update
grep -q '^compressed model: [0-9a-f]* -> [0-9a-f]*$' out
ends 0 gate lost.onnx
cp first.json gate.json

# Latency is a ratio, taken only when asked for; no time is a matter of this test.
ends 0 gate int8.onnx --max-latency-ratio 100000 --repeats 1 --seconds 0.01
ends 5 gate int8.onnx --max-latency-ratio 0.0000001 --repeats 1 --seconds 0.01
grep -q "^most latency ratio: the model takes .* of the reference's time" out
ends 0 gate int8.onnx --update --latency --measure-memory --repeats 1 --seconds 0.01
grep -q '"latency_ratio": [0-9]' gate.json
grep -q '"max-latency-growth": "20%"' gate.json
ends 0 gate int8.onnx --repeats 1 --seconds 0.01 --max-latency-growth 100000%
grep -q '^measured memory ' out
cp first.json gate.json

# A baseline of something else is refused with both digests; nothing is written.
other=$("$spoil" "$digits/model.onnx" base.onnx bytes 1 && echo base.onnx)
ends 2 "$MCOMPRESS" gate int8.onnx --baseline gate.json --reference "$other" --eval "$digits/eval.npz" \
  --samples 400 --junit none.xml
grep -q "gate.json: was made with another reference: 'model.onnx' of digest [0-9a-f]\{16\}, and 'base.onnx' has [0-9a-f]\{16\} (.--update" message
ends 2 gate int8.onnx --samples 300 --junit none.xml
grep -q 'was made with another data\|samples' message
ends 2 "$MCOMPRESS" gate int8.onnx --baseline gate.json --reference "$digits/model.onnx" \
  --eval "$digits/calib.npz" --junit none.xml
grep -q "with another data: 'eval.npz' of digest [0-9a-f]\{16\}, and 'calib.npz' has [0-9a-f]\{16\}" message
# What it was made with and is not given is a mistake of the command line.
ends 1 "$MCOMPRESS" gate int8.onnx --baseline gate.json --eval "$digits/eval.npz" --samples 400
grep -q 'give --reference REF' message
ends 1 "$MCOMPRESS" gate int8.onnx --baseline gate.json --reference "$digits/model.onnx"
grep -q 'give --eval DATA' message
[[ ! -e none.xml ]]
# No file of the command is written over, and a report goes to no missing folder.
ends 1 gate int8.onnx --junit gate.json
ends 4 gate int8.onnx --junit missing/gate.xml
ends 4 gate int8.onnx --markdown none.md --junit .
[[ ! -e none.md ]]
cmp gate.json first.json

# Hostile baselines: the place of the mistake, status 2, and --update does not write over them.
for text in '' '{' '[]' '{"schema": "other"}' "$(sed 's/"version": 1/"version": 99/' first.json)" \
  "$(sed 's/"file_bytes": [0-9]*/"file_bytes": "x"/' first.json)"; do
  printf '%s' "$text" >gate.json
  cp gate.json hostile.json
  ends 2 gate int8.onnx
  grep -q 'gate.json:[0-9]*:[0-9]*' message
  ends 2 gate int8.onnx --update
  cmp gate.json hostile.json
done
cp first.json gate.json

# With nothing but the model: made-up inputs, sizes and recorded outputs.
ends 0 "$MCOMPRESS" gate int8.onnx --baseline bare.json --update
ends 0 "$MCOMPRESS" gate int8.onnx --baseline bare.json
grep -q '^outputs as recorded ' out
"$spoil" int8.onnx spoilt.onnx gain 1
ends 5 "$MCOMPRESS" gate spoilt.onnx --baseline bare.json
ends 1 "$MCOMPRESS" gate int8.onnx --baseline bare.json --seed 7
ends 2 "$MCOMPRESS" gate int8.onnx --baseline bare.json --eval "$digits/eval.npz"
grep -q 'was made without data' message
ends 1 "$MCOMPRESS" gate int8.onnx --baseline bare.json --latency
# Data that the model was not calibrated with are told.
ends 0 "$MCOMPRESS" gate int8.onnx --baseline calib.json --update --calib "$digits/calib.npz"
[[ ! -s message ]] || ! grep -q 'was calibrated with' message
ends 0 "$MCOMPRESS" gate int8.onnx --baseline eval.json --update --calib "$digits/eval.npz"
grep -q 'was calibrated with data of digest' message

# The Makefile of the documentation does what it says.
if command -v make >/dev/null; then
  make_gate() {
    make -s -f "$MCOMPRESS_MODELS/../docs/examples/ci/Makefile" MCOMPRESS="$MCOMPRESS" RECIPE=server-int8 \
      MODEL="$digits/model.onnx" CALIB="$digits/calib.npz" EVAL="$digits/eval.npz" BASELINE=made.json "$@"
  }
  ends 0 make_gate gate-update
  ends 0 make_gate gate
  grep -q '^passed: ' out
  [[ -s build/gate.xml && -s build/gate.md ]]
  cp lost.onnx build/compressed.onnx
  ends 2 make_gate gate  # make's own status
  grep -q 'Error 5' message
fi
