# Archives: byte for byte back, with external data too; read by other commands as they are.
digits=$MCOMPRESS_MODELS/digits
"$MCOMPRESS" pack "$digits/model.onnx" -o one.mca -q
"$MCOMPRESS" pack "$digits/model.onnx" -o four.mca -q --jobs 4
cmp one.mca four.mca
test "$(stat -c %s one.mca)" -lt "$(stat -c %s "$digits/model.onnx")"
"$MCOMPRESS" unpack one.mca -o back.onnx -q
cmp back.onnx "$digits/model.onnx"

# A model in two files comes back as two files.
mkdir -p pair out
"$MCOMPRESS" optimize "$digits/model.onnx" -o pair/model.onnx --external-data always -q
"$MCOMPRESS" pack pair/model.onnx -o pair.mca -q
"$MCOMPRESS" unpack pair.mca -o out/other.onnx -q
cmp out/other.onnx pair/model.onnx
cmp out/model.onnx.data pair/model.onnx.data

# Commands take the archive as the model it holds.
"$MCOMPRESS" diff "$digits/model.onnx" one.mca --exit-code >/dev/null
"$MCOMPRESS" diff pair/model.onnx pair.mca --exit-code >/dev/null
"$MCOMPRESS" quantize one.mca -o from-archive.onnx --mode weight-only -q
"$MCOMPRESS" quantize "$digits/model.onnx" -o from-model.onnx --mode weight-only -q
cmp from-archive.onnx from-model.onnx
"$MCOMPRESS" pack "$digits/model.onnx" -o weights.mca --only-weights -q

expect() {  # EXIT TEXT COMMAND...
  local wanted=$1 text=$2 status=0; shift 2
  "$@" 2>error || status=$?
  test "$status" = "$wanted" || { echo "$* ended with $status" >&2; exit 1; }
  grep -qF "$text" error || { echo "$*: $(cat error)" >&2; exit 1; }
}
expect 3 'weights and no graph' "$MCOMPRESS" unpack weights.mca -o none.onnx
expect 3 'an archive already' "$MCOMPRESS" pack one.mca -o two.mca
expect 1 'the output is missing' "$MCOMPRESS" pack "$digits/model.onnx"
expect 1 'would overwrite' "$MCOMPRESS" pack "$digits/model.onnx" -o "$digits/model.onnx"
expect 2 'does not begin like an archive' "$MCOMPRESS" unpack "$digits/model.onnx" -o none.onnx
head -c 1000 one.mca >short.mca
expect 2 'trailer' "$MCOMPRESS" unpack short.mca -o none.onnx
expect 2 'trailer' "$MCOMPRESS" inspect short.mca
test ! -e none.onnx -a ! -e two.mca

# Weights that decode themselves: the same bytes whatever the threads, smaller, and within the memory allowed.
"$MCOMPRESS" cluster "$digits/model.onnx" -o clustered.onnx --bits 3 --rate 2 -q
"$MCOMPRESS" pack --form onnx clustered.onnx -o decoding-1.onnx --jobs 1 -q
"$MCOMPRESS" pack --form onnx clustered.onnx -o decoding-4.onnx --jobs 4 -q
cmp decoding-1.onnx decoding-4.onnx
test "$(stat -c %s decoding-1.onnx)" -lt "$(stat -c %s clustered.onnx)"
expect 3 'max-load-bytes allows' "$MCOMPRESS" pack --form onnx clustered.onnx -o none.onnx --max-load-bytes 1
test ! -e none.onnx
