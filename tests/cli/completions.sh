# Completions, in the shells themselves. zsh and fish where they are installed.
for shell in bash zsh fish; do "$MCOMPRESS" completions "$shell" >"completions.$shell"; done
"$MCOMPRESS" completions bash -o again
cmp completions.bash again
bash -n completions.bash

# The words that bash offers for a command line whose last word is being typed.
cat >ask.sh <<'END'
compopt() { :; }  # works within a completion only
source ./completions.bash
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_mcompress
for word in "${COMPREPLY[@]}"; do
  [[ $word != *$'\n'* ]] || exit 9
  printf '%s\n' "$word"
done
END
offers() {  # WORDS-THAT-MUST-BE-THERE... -- COMMAND LINE
  local wanted=() word
  while [[ $1 != -- ]]; do wanted+=("$1"); shift; done
  shift
  bash ask.sh "$@" | sort >offered
  for word in "${wanted[@]}"; do
    grep -qxF -e "$word" offered || { echo "no '$word' for: $*"; cat offered; exit 9; }
  done
}
only() { offers "$@"; local count=0; while [[ $1 != -- ]]; do count=$((count + 1)); shift; done
  [[ $(grep -c . offered) == "$count" ]] || { echo "more than asked: $*"; cat offered; exit 9; }; }
touch model.onnx data.npz
mkdir folder
offers inspect quantize fuse help completions --version -- mcompress ''
only quantize -- mcompress quan
only --mode -- mcompress quantize --mod
offers --json -o --no-verify -- mcompress quantize -
only static -- mcompress quantize --mode st
only static -- mcompress quantize --mode = st
only --mode=static -- mcompress quantize --mode=st
offers static weight-only -- mcompress quantize --mode =
offers model.onnx data.npz folder -- mcompress quantize ''
only model.onnx -- mcompress quantize --calib data.npz mod
only data.npz -- mcompress quantize model.onnx --calib d
only folder -- mcompress quantize model.onnx --dump-passes f
offers fuse-batchnorm fuse-gelu -- mcompress optimize model.onnx --skip fu
only fuse-gelu,fold-constants -- mcompress optimize model.onnx --skip fuse-gelu,fold-const
offers fold-constants -- mcompress fuse model.onnx --only fold-const
offers server-int8 smallest-file -- mcompress run s
only model.onnx -- mcompress run server-int8 mod
offers server-int8 -- mcompress batch folder s
only onnxruntime-cpu-vnni -- mcompress quantize --target onnxruntime-cpu-v
offers generic-qdq -- mcompress targets gen
only quantize-static -- mcompress passes quantize-st
offers exit-codes quantize -- mcompress help ''
only bash zsh fish -- mcompress completions ''
only recipe report report-page -- mcompress schema re
only quantize -- mcompress man qua
# Everything --help lists is offered.
for command in $("$MCOMPRESS" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\).*/\1/p'); do
  "$MCOMPRESS" "$command" --help | grep -oE '^  (-[a-z], *)?--[a-z0-9-]+' | grep -oE -e '--[a-z0-9-]+' | sort >flags
  bash ask.sh mcompress "$command" -- | sort >offered
  [[ -z $(comm -23 flags offered) ]] || { echo "$command lacks"; comm -23 flags offered; exit 9; }
done

if command -v zsh >/dev/null; then
  zsh -n completions.zsh
  # Loaded with zsh's own completion system.
  zsh -f -c 'autoload -Uz compinit && compinit -u -d ./dump && source ./completions.zsh && whence _mcompress' >/dev/null
fi
if command -v fish >/dev/null; then
  fish --no-execute completions.fish
  ask() { HOME=$PWD XDG_CONFIG_HOME=$PWD fish --no-config -c "source completions.fish; complete -C '$1'" | cut -f 1; }
  [[ $(ask 'mcompress quan') == quantize ]]
  [[ $(ask 'mcompress quantize --mod') == --mode ]]
  [[ $(ask 'mcompress quantize --mode st') == static ]]
  ask 'mcompress optimize m.onnx --skip fuse-gelu,fold-const' | grep -qx 'fuse-gelu,fold-constants'
  ask 'mcompress run server' | grep -qx server-int8
  ask 'mcompress run server-int8 mod' | grep -qx model.onnx
  ask 'mcompress help exit' | grep -qx exit-codes
  ask 'mcompress passes quantize-st' | grep -qx quantize-static
fi

# A shell nobody knows.
status=0
"$MCOMPRESS" completions bsh 2>message || status=$?
[[ $status == 1 ]] && grep -q "did you mean 'bash'" message
