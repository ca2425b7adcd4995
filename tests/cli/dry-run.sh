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
# So do commands that write no model of a recipe: everything is done but the writing.
mkdir dry && cd dry
"$MCOMPRESS" pack "$digits/model.onnx" -o ../packed.mca -q
"$MCOMPRESS" pack "$digits/model.onnx" -o dry.mca --dry-run -q
"$MCOMPRESS" pack "$digits/model.onnx" --dry-run -q
"$MCOMPRESS" pack "$digits/model.onnx" --form onnx --dry-run -q || [[ $? == 3 ]]
"$MCOMPRESS" unpack ../packed.mca -o dry.onnx --dry-run -q
"$MCOMPRESS" unpack ../packed.mca --dry-run -q
"$MCOMPRESS" calibrate "$digits/model.onnx" --calib "$digits/calib.npz" -o dry.json --dry-run -q
"$MCOMPRESS" calibrate "$digits/model.onnx" --calib "$digits/calib.npz" --dry-run -q
"$MCOMPRESS" prune "$digits/model.onnx" --dry-run -q --save-mask mask.npz
"$MCOMPRESS" cluster "$digits/model.onnx" --dry-run -q
"$MCOMPRESS" run cluster "$digits/model.onnx" --dry-run -q
[[ -z $(ls -A) ]]
# The checks and the exit statuses are those of a run.
status=0
head -c 5000 ../packed.mca >../damaged.mca
"$MCOMPRESS" unpack ../damaged.mca -o dry.onnx --dry-run -q 2>../message || status=$?
[[ $status == 2 ]]
status=0
"$MCOMPRESS" unpack ../packed.mca -o none/dry.onnx --dry-run -q 2>../message || status=$?
[[ $status == 4 && -z $(ls -A) ]]
# A batch tells what it would do, and what is done.
mkdir ../zoo ../none
cp "$digits/model.onnx" ../zoo/a.onnx
cp "$digits/model.onnx" ../zoo/b.onnx
"$MCOMPRESS" batch ../zoo cluster -o out --dry-run >../list
[[ -z $(ls -A) && $(grep -c ' cluster  *to do$' ../list) == 2 ]]
rm ../zoo/b.onnx
"$MCOMPRESS" batch ../zoo cluster -o ../done -q 2>/dev/null
cp ../zoo/a.onnx ../zoo/b.onnx
find ../done | sort >../before
"$MCOMPRESS" batch ../zoo cluster -o ../done --dry-run >../list
grep -q '^a.onnx .* done before$' ../list
grep -q '^b.onnx .* to do$' ../list
find ../done | sort | cmp - ../before
