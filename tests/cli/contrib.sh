# Operators that are not ONNX's come in only when they are allowed, and only for a target that has them.
model=$MCOMPRESS_MODELS/digits/model.onnx
"$MCOMPRESS" optimize "$model" -o plain.onnx --allow-larger -q
"$MCOMPRESS" inspect plain.onnx --json >plain.json
if grep -q 'com.microsoft' plain.json; then exit 9; fi
"$MCOMPRESS" optimize "$model" -o fused.onnx --allow-contrib --target onnxruntime-cpu --allow-larger 2>message
"$MCOMPRESS" inspect fused.onnx --json >fused.json
grep -q '"com.microsoft": 1' fused.json
grep -q '"com.microsoft:Fused' fused.json
# It computes the same, and what runs on it again leaves it as it is.
"$MCOMPRESS" compare plain.onnx fused.onnx --data "$MCOMPRESS_MODELS/digits/calib.npz" --json >compared.json
"$MCOMPRESS" optimize fused.onnx -o again.onnx --allow-contrib --allow-larger -q || [[ $? == 3 ]]
status=0
"$MCOMPRESS" optimize "$model" -o none.onnx --allow-contrib --target generic-qdq 2>message || status=$?
[[ $status == 1 && ! -e none.onnx ]]
grep -q "target 'generic-qdq' has no operators of its own" message
# The flag belongs to a pass.
status=0
"$MCOMPRESS" optimize "$model" -o none.onnx --allow-contrib --skip fuse-contrib,fuse-quantized 2>message || status=$?
[[ $status == 1 && ! -e none.onnx ]]
grep -q 'is an option of fuse-contrib' message
grep -q 'fuse-quantized' message
