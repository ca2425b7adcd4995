# Same input, same bytes: whatever the threads, the folder, the memory, the name of the output.
digits=$MCOMPRESS_MODELS/digits
mkdir -p a/b
"$MCOMPRESS" quantize "$digits/model.onnx" -o one.onnx --calib "$digits/calib.npz" \
  --report one.json -q
cp "$digits/model.onnx" a/b/model.onnx
(cd a/b && "$MCOMPRESS" quantize model.onnx -o two.onnx --calib "$digits/calib.npz" -q \
  --threads 2 --jobs 1 --memory-budget 1MiB)
cmp one.onnx a/b/two.onnx
"$MCOMPRESS" quantize "$digits/model.onnx" -o - --calib "$digits/calib.npz" -q >three.onnx
cmp one.onnx three.onnx
"$MCOMPRESS" quantize "$digits/model.onnx" -o one.onnx --calib "$digits/calib.npz" \
  --report two.json -q
cmp one.json two.json
"$MCOMPRESS" calibrate "$digits/model.onnx" --calib "$digits/calib.npz" -o table.json -q --jobs 1
"$MCOMPRESS" calibrate "$digits/model.onnx" --calib "$digits/calib.npz" -o a/table.json -q --jobs 3
cmp table.json a/table.json
