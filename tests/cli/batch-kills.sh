# kill -9 at random moments, each time resumed: every output is byte for byte that of a run in one
# go, and nothing that was finished is done again.
#   MCOMPRESS_KILLS=50 MCOMPRESS_ZOO=folder: more of it
kills=${MCOMPRESS_KILLS:-6}
zoo=${MCOMPRESS_ZOO:-}
digits=$MCOMPRESS_MODELS/digits/model.onnx
if [[ -z $zoo ]]; then
  zoo=zoo
  mkdir -p zoo/deep
  for i in 1 2 3 4 5; do cp "$digits" "zoo/m$i.onnx"; done
  "$MCOMPRESS" convert-opset "$digits" -o zoo/deep/newer.onnx --to 19 -q
  "$MCOMPRESS" optimize "$digits" -o zoo/deep/clean.onnx -q
  head -c 2000 "$digits" >zoo/broken.onnx
fi
recipe=${MCOMPRESS_RECIPE:-smallest-file}
journal=killed/.mcompress-batch/journal-1-of-1.jsonl
SECONDS=0
"$MCOMPRESS" batch "$zoo" "$recipe" -o whole --jobs 2 -q 2>/dev/null || true
whole=$SECONDS
RANDOM=${MCOMPRESS_SEED:-7}
hit=0
for ((kill = 0; kill < kills; ++kill)); do
  "$MCOMPRESS" batch "$zoo" "$recipe" -o killed --jobs 2 -q 2>/dev/null & pid=$!
  # Moments spread over a whole run, the first 20 ms and what resuming costs.
  sleep "$(printf '%d.%03d' $((RANDOM % (whole / 4 + 1))) $((RANDOM % 1000)))"
  if kill -9 "$pid" 2>/dev/null; then hit=$((hit + 1)); fi
  wait "$pid" 2>/dev/null || true
  # A finished run is begun anew, or there would be nothing to kill.
  if [[ $(grep -c '"status": 0' "$journal") == $(find whole -name '*.onnx' | wc -l) ]]; then
    rounds=$((${rounds:-0} + 1))
    check=1
  else
    check=0
  fi
  [[ $(grep '"status": 0' "$journal" | grep -o '"job": "[^"]*"' | sort | uniq -d | wc -l) == 0 ]]
  if ((check && kill + 1 < kills)); then
    (cd whole && find . -name '*.onnx' | sort) | while read -r file; do cmp "whole/$file" "killed/$file"; done
    # Jobs of the killed batch end with it; then the folder is free.
    for _ in $(seq 100); do flock -n "$journal" true && break; sleep 0.1; done
    rm -rf killed
  fi
done
((hit > 0))
for _ in $(seq 100); do
  if [[ ! -e $journal ]] || flock -n "$journal" true; then break; fi
  sleep 0.1
done
"$MCOMPRESS" batch "$zoo" "$recipe" -o killed --jobs 2 -q 2>/dev/null || true
(cd whole && find . -name '*.onnx' | sort) >files
[[ -s files ]]
diff files <(cd killed && find . -name '*.onnx' | sort)
while read -r file; do cmp "whole/$file" "killed/$file"; done <files
[[ $(grep '"status": 0' "$journal" | grep -o '"job": "[^"]*"' | sort | uniq -d | wc -l) == 0 ]]
# Nothing half written is left.
[[ -z $(find killed -name '.*.tmp') ]] || { find killed -name '.*.tmp' >&2; echo "temporaries are left" >&2; }
echo "$hit of $kills kills hit a running batch, $(wc -l <files) outputs, ${rounds:-0} times from the start" >&2
