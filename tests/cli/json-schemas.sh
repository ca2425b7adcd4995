# The schemas are JSON Schemas (draft 2020-12), and results fit them, by Python's jsonschema where it
# is installed; tests/schemas_test.cpp looks at keys and types without it.
"$MCOMPRESS" schema --list >names
for name in $(cut -d ' ' -f 1 names); do "$MCOMPRESS" schema "$name" >"$name.schema.json"; done
[[ $(wc -l <names) -ge 14 ]]
python=${MCOMPRESS_PYTHON:-python3}
command -v "$python" >/dev/null || exit 0
"$python" -c 'from jsonschema import Draft202012Validator' 2>/dev/null || exit 0
digits=$MCOMPRESS_MODELS/digits
make() {  # SCHEMA ARGUMENTS...
  local schema=$1
  shift
  count=$((count + 1))
  "$MCOMPRESS" "$@" --json >"$schema.$count.result.json" 2>/dev/null
}
count=0
make report quantize "$digits/model.onnx" -o q.onnx --calib "$digits/calib.npz" --eval "$digits/eval.npz" --samples 32 --bench --times
make report optimize "$digits/model.onnx" -o o.onnx
make report run smallest-file "$digits/model.onnx" -o s.onnx
make pack pack "$digits/model.onnx" -o m.mca
make unpack unpack m.mca -o m.onnx
make inspect inspect "$digits/model.onnx" --measure --passes
make inspect inspect "$digits/model.onnx" --groups
make diff diff "$digits/model.onnx" q.onnx
make diff diff q.onnx q.onnx
make eval eval q.onnx --data "$digits/eval.npz" --against "$digits/model.onnx" --samples 50
make compare compare "$digits/model.onnx" q.onnx --data "$digits/calib.npz" --samples 16 --layers
make compare compare "$digits/model.onnx" "$digits/model.onnx" --data "$digits/calib.npz" --samples 4
make bench bench q.onnx --against "$digits/model.onnx" --runs 2 --loads 1 --profile
make sensitivity sensitivity "$digits/model.onnx" --calib "$digits/calib.npz" --samples 4 --min-sqnr 30
"$MCOMPRESS" calibrate "$digits/model.onnx" --calib "$digits/calib.npz" -o t.json -q
make drift drift "$digits/model.onnx" t.json --data "$digits/eval.npz" --samples 100
make targets targets
make targets targets generic-qdq
make passes passes
make batch batch "$digits/model.onnx" optimize -o folder
"$MCOMPRESS" quantize "$digits/model.onnx" -o x.onnx --calib "$digits/calib.npz" --print-recipe -q >recipe.90.result.json
"$MCOMPRESS" run mobile-int8 "$digits/model.onnx" -o x.onnx --calib "$digits/calib.npz" --print-recipe -q >recipe.91.result.json
cat >check.py <<'END'
import glob, json, sys
from jsonschema import Draft202012Validator
schemas = {}
for file in glob.glob("*.schema.json"):
    schemas[file.split(".")[0]] = schema = json.load(open(file))
    Draft202012Validator.check_schema(schema)
checked = 0
for file in sorted(glob.glob("*.result.json")):
    validator = Draft202012Validator(schemas[file.split(".")[0]])
    for error in validator.iter_errors(json.load(open(file))):
        sys.exit(f"{file}: {list(error.absolute_path)}: {error.message[:300]}")
    checked += 1
recipe = Draft202012Validator(schemas["recipe"])
for bad in [{}, {"passes": []}, {"passes": ["optimise"]}, {"passes": [{"pass": "quantize-weights", "min-element": 3}]},
            {"passes": [{"pass": "quantize-weights", "min-elements": -1}]}, {"passes": ["quantize-weights"], "seed": -1},
            {"passes": ["quantize-weights"], "target": "onnxruntime-cp"}, {"passes": ["quantize-weights"], "version": 99}]:
    if recipe.is_valid(bad):
        sys.exit(f"fits, but should not: {bad}")
print(checked, "results fit", len(schemas), "schemas", file=sys.stderr)
END
"$python" check.py
