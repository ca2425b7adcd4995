# A part is calibrated on what another makes of its own samples: `from` under `data`.
chain=$MCOMPRESS_FIXTURES/chain
mkdir in
cp "$chain"/* in/
run() {  # NAME FLAGS...
  "$MCOMPRESS" run "in/$1.yaml" -o "$1" --no-provenance -q "${@:2}"
}
alone() {  # MODEL DATA OUT
  "$MCOMPRESS" run quantize-static "in/$1.onnx" -o "$3" --calib "$2" --no-provenance -q
}

# What the first makes is twice its samples, and these stand in a file too: the same bytes.
cat >in/twice.yaml <<'YAML'
parts:
  - {name: first, model: twice.onnx, recipe: optimize, data: {calib: x.npz}}
  - {name: second, model: reader.onnx, recipe: quantize-static, data: {from: first}}
YAML
run twice
alone reader in/h.npz alone.onnx
cmp twice/reader.onnx alone.onnx
alone reader in/x.npz other.onnx 2>message && exit 9 # x.npz has no h
# Samples by other names, and those that the first does not make.
cat >in/two.yaml <<'YAML'
parts:
  - {name: first, model: twice.onnx, recipe: optimize, data: {calib: x.npz}}
  - name: second
    model: two.onnx
    recipe: quantize-static
    data: {from: {part: first, results: {h: k}}, calib: t.npz}
YAML
run two
alone two in/kt.npz alone.onnx
cmp two/two.onnx alone.onnx

# The result of the first counts, where nothing else is said: that of its own file, read again.
cat >in/result.yaml <<'YAML'
parts:
  - {name: first, model: maker.onnx, recipe: [smallest-file, quantize-static], data: {calib: x.npz}}
  - {name: second, model: reader.onnx, recipe: quantize-static, data: {from: first}}
YAML
run result
sed 's/from: first/from: {part: first, model: original}/' in/result.yaml >in/original.yaml
run original
! cmp -s result/reader.onnx original/reader.onnx
cmp result/maker.onnx original/maker.onnx
cp result/maker.onnx in/made.onnx
sed 's/from: first/from: {part: first, model: original}/; s/maker.onnx/made.onnx/; s/\[smallest-file.*\], d/optimize, d/' \
  in/result.yaml >in/again.yaml
run again
cmp again/reader.onnx result/reader.onnx

# Again from what --print-recipe prints, and a dry run; a chain of three.
"$MCOMPRESS" run in/result.yaml --print-recipe >printed.json 2>/dev/null
"$MCOMPRESS" run printed.json -o printed --no-provenance -q
cmp printed/reader.onnx result/reader.onnx
"$MCOMPRESS" run in/result.yaml --dry-run -q
cat >in/three.yaml <<'YAML'
parts:
  - {name: first, model: twice.onnx, recipe: optimize, data: {calib: x.npz}}
  - {name: second, model: reader.onnx, recipe: optimize, output: middle.onnx, data: {from: first}}
  - {name: third, model: reader.onnx, recipe: quantize-static, data: {from: {part: second, results: {y: h}}}}
YAML
run three
! cmp -s three/reader.onnx twice/reader.onnx
# The digest of the samples is in the result.
"$MCOMPRESS" run in/twice.yaml -o noted -q
grep -aq mcompress.calibration noted/reader.onnx

refused() {  # STATUS TEXT DATA-OF-THE-SECOND
  local status=0
  printf 'parts:\n  - {name: first, model: twice.onnx, recipe: optimize, data: {%s}}\n  - {name: second, model: %s, recipe: quantize-static, data: {%s}}\n' \
    "${5:-calib: x.npz}" "${4:-reader.onnx}" "$3" >in/wrong.yaml
  "$MCOMPRESS" run in/wrong.yaml -o wrong -q 2>message || status=$?
  [[ $status == "$1" && ! -e wrong ]] && grep -qF -- "$2" message || { cat message; exit 9; }
}
refused 1 "there is no part 'frst' before this one" 'from: frst'
refused 1 "did you mean 'first'?" 'from: frst'
refused 1 "there is no part 'second' before this one" 'from: second'
refused 1 "unknown key 'result' (did you mean 'results'?)" 'from: {part: first, result: {h: h}}'
refused 1 "must be 'compressed' or 'original'" 'from: {part: first, model: small}'
refused 1 "'g' is no output of part 'first'" 'from: {part: first, results: {g: h}}'
refused 1 "'g' is no input of this part" 'from: {part: first, results: {h: g}}'
refused 1 "takes what it makes, and it has no samples" 'from: first' reader.onnx 'eval: x.npz'
refused 2 'does not take the shape [1, 32]' 'from: first' other.onnx
refused 2 "has no samples: part 'first' makes nothing of that name" 'from: {part: first, results: {h: k}}' two.onnx
refused 2 "the other inputs have 1 sample, and part 'first' makes 24" 'from: {part: first, results: {h: k}}, calib: short.npz' two.onnx
