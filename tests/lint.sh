#!/usr/bin/env bash
# Checks of the sources that need no run of the program:
#   tests/lint.sh format         clang-format leaves every file as it is (--fix: rewrite them)
#   tests/lint.sh tidy [FOLDER]  clang-tidy with .clang-tidy; FOLDER holds compile_commands.json (build/release)
#   tests/lint.sh alone [FOLDER] what the build compiles with others and 20 commits touched compiles by itself
#   tests/lint.sh shell          every script parses; none names a package registry's host
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tool() {  # NAME: the pinned major version where there is one, as the output differs between versions
  command -v "$1-14" || command -v "$1" || { echo "lint: $1 is missing: cmake/bootstrap.sh --system-checks" >&2; exit 1; }
}
sources() { git ls-files --cached --others --exclude-standard -- "$@" | while read -r f; do [[ -f $f ]] && echo "$f"; done; }

case ${1:-} in
  format)
    mode=(--dry-run -Werror)
    [[ ${2:-} == --fix ]] && mode=(-i)
    sources '*.cpp' '*.h' | xargs -r "$(tool clang-format)" "${mode[@]}" || exit 1
    ;;
  tidy)
    build=${2:-build/release}
    tidy=$(tool clang-tidy) || exit 1
    units=$(mktemp -d)
    trap 'rm -rf "$units"' EXIT
    # Nothing here needs optimised code or instrumentation: clang must only understand the flags of gcc.
    check() {  # FILE
      "$tidy" -p "$units" --config-file=.clang-tidy --quiet \
        --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-error "$1" 2> >(grep -v 'warnings generated' >&2)
    }
    # The sources of a unit have the last word: alone they may be right, and the place of a finding is clearer.
    check_unit() {  # UNIT
      local failed=0 source
      check "$1" >/dev/null 2>&1 && return
      while read -r source; do check "$source" || failed=1; done < <(sed 's/^#include "\(.*\)"$/\1/' "$1")
      ((failed)) || echo "lint: nothing is wrong with these one by one, which took long: $(tr '\n' ' ' <"$1")" >&2
      return "$failed"
    }
    export -f check check_unit
    export tidy units
    status=0
    python3 tests/tidy_units.py "$build" "$units" >"$units/list" || status=1
    xargs -r -n 1 -P "$(nproc)" bash -c 'check_unit "$1"' - <"$units/list" || status=1
    exit $status
    ;;
  alone)
    commands=$(python3 tests/alone_sources.py "${2:-build/release}" 20) || exit 1
    xargs -r -d '\n' -n 1 -P "$(nproc)" bash -c <<<"$commands" || exit 1
    ;;
  shell)
    status=0
    while read -r script; do
      bash -n "$script" || status=1
    done < <(sources '*.sh' .ci/run)
    hosts='pypi\.org|pythonhosted\.org|(deb|security)\.debian\.org|registry\.npmjs|crates\.io|proxy\.golang'
    if sources '*' | grep -v '^tests/lint.sh$' | xargs -r grep -nIE "$hosts"; then
      echo "lint: name packages, not the hosts they come from" >&2
      status=1
    fi
    exit $status
    ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 1 ;;
esac
