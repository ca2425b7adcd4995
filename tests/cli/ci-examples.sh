# The files for CI servers: their commands do what they say, and what checkers are installed find nothing.
examples=$MCOMPRESS_MODELS/../docs/examples/ci
digits=$MCOMPRESS_MODELS/digits
mkdir -p bin models
ln -s "$MCOMPRESS" bin/mcompress
PATH=$PWD/bin:$PATH
cp "$digits/model.onnx" "$digits/calib.npz" models/
cp "$digits/eval.npz" models/labelled.npz
printf 'passes:\n  - recipe: quantize-static\n' >models/recipe.yaml

# A command a line, as the shell gets them.
github() {
  awk '/^ *mcompress (run|gate) /{on=1}
       on{sub(/^ */, ""); if (sub(/\\$/, "")) {printf "%s", $0} else {print; on=0}}' "$examples/github-actions.yml"
}
gitlab() {  # "- >" folds the lines below it into one
  awk '/^    - /{if (on) print ""; on=0} /^  [a-z]/{if (on) print ""; on=0} /^ *(- )?mcompress (run|gate) /{on=1}
       on{sub(/^ *(- )?/, ""); printf "%s ", $0}' "$examples/gitlab-ci.yml"
}
for server in github gitlab; do
  "$server" >"$server.sh"
  [[ $(wc -l <"$server.sh") == 2 && $(cut -d ' ' -f 2 "$server.sh" | tr '\n' ' ') == "run gate " ]]
  rm -rf build && mkdir build
  sed -n 1p "$server.sh" >step.sh && bash -e step.sh 2>/dev/null
  # The baseline is made by the same command with --update.
  { sed -n 2p "$server.sh" | tr -d '\n'; echo ' --update'; } >step.sh && bash -e step.sh >/dev/null 2>&1
  sed -n 2p "$server.sh" >step.sh && bash -e step.sh >out 2>/dev/null
  grep -q '^passed: ' out
  [[ -s build/gate.xml && -s build/gate.md ]]
  cp models/model.onnx build/int8.onnx
  status=0
  bash -e step.sh >/dev/null 2>&1 || status=$?
  [[ $status == 5 ]]
done
if command -v check-jsonschema >/dev/null; then
  check-jsonschema --builtin-schema vendor.github-workflows "$examples/github-actions.yml" >&2
  check-jsonschema --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci "$examples/gitlab-ci.yml" >&2
fi
if command -v actionlint >/dev/null; then actionlint "$examples/github-actions.yml"; fi
