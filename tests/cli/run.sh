#!/usr/bin/env bash
# run.sh MCOMPRESS SCRIPT: runs one black-box test in an empty folder of its own.
#
# The script sees $MCOMPRESS (the program), $MCOMPRESS_MODELS (models/ of the source tree) and $MCOMPRESS_FIXTURES (the
# models made at build time). Beside SCRIPT.sh stand
#   SCRIPT.exit         its expected exit status; 0 when absent
#   SCRIPT.stdout.glob  its expected standard output; nothing when absent
#   SCRIPT.stderr.glob  its expected standard error; not looked at when absent
# Each line of a .glob is a shell pattern for one line; a line `...` stands for any number of lines.
set -u

MCOMPRESS=$(realpath "$1")
script=$(realpath "$2")
base=${script%.sh}
export MCOMPRESS
export MCOMPRESS_MODELS=${MCOMPRESS_MODELS:-$(dirname "$script")/../../models}

scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch" 2>/dev/null; rm -rf "$scratch"' EXIT
mkdir "$scratch/folder"
(cd "$scratch/folder" && exec bash -eu "$script") >"$scratch/stdout" 2>"$scratch/stderr" </dev/null
status=$?

failed=0
expected=0
[[ -r $base.exit ]] && expected=$(<"$base.exit")
if [[ $status != "$expected" ]]; then
  echo "exit status is $status, expected $expected"
  failed=1
fi

matches() {  # TEXT-FILE GLOB-FILE
  local -a lines patterns
  mapfile -t lines <"$1"
  mapfile -t patterns <"$2"
  local at=0 skip=0 pattern
  for pattern in "${patterns[@]}"; do
    if [[ $pattern == ... ]]; then skip=1; continue; fi
    if ((skip)); then
      # shellcheck disable=SC2053
      while ((at < ${#lines[@]})) && [[ ${lines[at]} != $pattern ]]; do ((++at)); done
    fi
    # shellcheck disable=SC2053
    if ((at >= ${#lines[@]})) || [[ ${lines[at]} != $pattern ]]; then
      echo "no line matches: $pattern"
      ((at < ${#lines[@]})) && echo "the line there is: ${lines[at]}"
      return 1
    fi
    ((++at))
    skip=0
  done
  if ((!skip && at < ${#lines[@]})); then
    echo "unexpected line: ${lines[at]}"
    return 1
  fi
}

: >"$scratch/nothing"
stdout_glob=$scratch/nothing
[[ -r $base.stdout.glob ]] && stdout_glob=$base.stdout.glob
matches "$scratch/stdout" "$stdout_glob" || { echo "(standard output)"; failed=1; }
if [[ -r $base.stderr.glob ]]; then
  matches "$scratch/stderr" "$base.stderr.glob" || { echo "(standard error)"; failed=1; }
fi

if ((failed)); then
  echo "---- stdout"; cat "$scratch/stdout"
  echo "---- stderr"; cat "$scratch/stderr"
fi
exit $failed
