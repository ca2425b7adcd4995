"$MCOMPRESS" inspect "$MCOMPRESS_MODELS/digits/model.onnx"
