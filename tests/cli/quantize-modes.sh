# Each mode, named or chosen, ends in a smaller model that the report explains.
digits=$MCOMPRESS_MODELS/digits
before=$(stat -c %s "$digits/model.onnx")
smaller() { (( $(stat -c %s "$1") * 3 < before )) || { echo "$1 is not 3 x smaller"; exit 9; }; }
"$MCOMPRESS" quantize "$digits/model.onnx" -o chosen.onnx 2>message
grep -q 'mode weight-only: no calibration data' message
grep -q 'compressed [0-9]* of [0-9]* weights' message
smaller chosen.onnx
"$MCOMPRESS" quantize "$digits/model.onnx" -o static.onnx --calib "$digits/calib.npz" \
  --report report.json 2>message
grep -q 'mode static: --calib given' message
grep -q 'SQNR of logits' message
smaller static.onnx
grep -q '"schema": "mcompress-report"' report.json
grep -q '"mode": "static"' report.json
"$MCOMPRESS" calibrate "$digits/model.onnx" --calib "$digits/calib.npz" -o table.json 2>/dev/null
"$MCOMPRESS" quantize "$digits/model.onnx" -o table.onnx --table table.json 2>/dev/null
smaller table.onnx
# The metadata says where it comes from, unless told not to.
grep -q mcompress.calibration static.onnx
"$MCOMPRESS" quantize "$digits/model.onnx" -o bare.onnx --no-provenance -q 2>message
grep -q mcompress.version bare.onnx && exit 9
[[ ! -s message ]]
# A second run finds nothing left: status 3, no output.
status=0
"$MCOMPRESS" quantize chosen.onnx -o again.onnx --mode weight-only 2>message || status=$?
[[ $status == 3 && ! -e again.onnx ]]
grep -q 'nothing was compressed' message
