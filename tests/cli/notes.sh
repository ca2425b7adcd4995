# Notes of exporters go where that is asked for, and nothing else does.
noted=$MCOMPRESS_FIXTURES/surroundings.onnx
"$MCOMPRESS" optimize "$noted" -o kept.onnx --no-provenance -q
grep -q 'node documentation' kept.onnx
"$MCOMPRESS" optimize "$noted" -o bare.onnx --no-provenance --strip-notes -q
[[ $(grep -ac 'node documentation\|graph documentation' bare.onnx || true) == 0 ]]
grep -q 'documentation' bare.onnx  # that of the model
(( $(stat -c %s bare.onnx) < $(stat -c %s kept.onnx) ))
"$MCOMPRESS" optimize "$noted" -o - --no-provenance --strip-notes -q | cmp - bare.onnx
# Without notes there is nothing to do.
"$MCOMPRESS" optimize bare.onnx -o again.onnx --strip-notes
cmp bare.onnx again.onnx
