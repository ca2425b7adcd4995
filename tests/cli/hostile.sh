# Files made to break loaders end in one line and a status that says whose fault it is, quickly and in little memory.
corpus=$MCOMPRESS_MODELS/../tests/fuzz/corpus/load
mkdir work && cd work
count=0
for file in "$corpus"/* "$MCOMPRESS_FIXTURES"/*.onnx; do
  for command in "inspect $file" "optimize $file -o out.onnx -q" "quantize $file -o out.onnx --mode weight-only -q" \
      "diff $file $MCOMPRESS_FIXTURES/branches.onnx" "inspect $file --dot -"; do
    status=0
    # shellcheck disable=SC2086
    text=$(timeout 60 "$MCOMPRESS" $command 2>&1 >/dev/null) || status=$?
    case $status in
      0) ;;
      2 | 3) [[ $text == *"mcompress: error: "* ]] || { echo "$command: $text"; exit 9; } ;;
      4) [[ $text == *allow-larger* ]] || { echo "$command: $text"; exit 9; } ;;
      *) echo "status $status: $command: $text"; exit 9 ;;
    esac
    [[ $status == 0 || -z $(ls -A) ]] || { echo "$command left"; ls -A; exit 9; }
    rm -f out.onnx out.onnx.data
    [[ -z $(ls -A) ]] || { echo "$command left"; ls -A; exit 9; }
    ((++count))
  done
done
((count > 60))
