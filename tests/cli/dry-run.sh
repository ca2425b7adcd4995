# A dry run plans and leaves nothing behind, with or without an output.
digits=$MCOMPRESS_MODELS/digits
mkdir work && cd work
"$MCOMPRESS" quantize "$digits/model.onnx" --mode weight-only --dry-run 2>../message
grep -q 'planned' ../message
"$MCOMPRESS" quantize "$digits/model.onnx" -o out.onnx --calib "$digits/calib.npz" --dry-run -q
"$MCOMPRESS" quantize "$digits/model.onnx" --calib x --print-recipe >../recipe.json
[[ -z $(ls -A) ]]
# What was printed replays the run.
cd ..
"$MCOMPRESS" quantize "$digits/model.onnx" --mode weight-only --print-recipe >recipe.json
"$MCOMPRESS" run recipe.json "$digits/model.onnx" -o run.onnx -q
"$MCOMPRESS" quantize "$digits/model.onnx" -o direct.onnx --mode weight-only -q
cmp run.onnx direct.onnx
