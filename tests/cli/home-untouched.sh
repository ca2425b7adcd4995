# Nothing is kept in the user's home, by us or by the runtime.
mkdir home
HOME=$PWD/home XDG_CACHE_HOME=$PWD/home/cache "$MCOMPRESS" quantize "$MCOMPRESS_MODELS/digits/model.onnx" -o out.onnx \
  --calib "$MCOMPRESS_MODELS/digits/calib.npz" -q
[[ -z $(find home -mindepth 1) ]] || { find home; exit 1; }
