#!/usr/bin/env bash
# Fills a cached prefix with the dependencies that the system's packages do not offer in a usable version:
# the ONNX C++ library, ONNX Runtime with its headers, and ONNX's backend test data.
#
#   cmake/bootstrap.sh                 fill the prefix (returns at once when it is complete)
#   cmake/bootstrap.sh --system        install the Debian/Ubuntu packages first (sudo when not root)
#   cmake/bootstrap.sh --system-checks the same, and the clang tools of the checks and the fuzz preset
#   cmake/bootstrap.sh --print-prefix  print the prefix and do nothing
#
# The prefix is $MCOMPRESS_DEPS, or else deps-<key> under the user's cache folder, where <key> follows from the pins
# (cmake/pins.sh, cmake/python-tools.lock), the machine and its protobuf. Nothing outside it is written, but by --system.
# An interrupted run is resumed; two runs at once wait for each other.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/pins.sh"

readonly system_packages=(
  g++ cmake ninja-build ccache python3-venv pkg-config ca-certificates dpkg-dev file
  libprotobuf-dev protobuf-compiler libeigen3-dev libcli11-dev libspdlog-dev nlohmann-json3-dev libyaml-cpp-dev
  libhwy-dev libtbb-dev libxxhash-dev libzip-dev libzstd-dev libstb-dev
  libgtest-dev libbenchmark-dev
)
# Wanted by the checks of .ci/run and by the fuzz preset, not by a build. The second line is what tests of the command line
# use where it is there.
readonly check_packages=(
  clang-14 clang-format-14 clang-tidy-14 libclang-rt-14-dev
  zsh fish mandoc groff parallel slurm-wlm munge python3-jsonschema
)

say() { printf 'bootstrap: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
sha256() { sha256sum "$1" | cut -d' ' -f1; }
expect_sha256() {  # FILE SHA256
  local got; got=$(sha256 "$1")
  [[ $got == "$2" ]] || die "$(basename "$1") has SHA-256 $got, pinned is $2"
}

prefix_path() {
  if [[ -n ${MCOMPRESS_DEPS:-} ]]; then printf '%s\n' "$MCOMPRESS_DEPS"; return; fi
  local key
  key=$({ cat "$here/pins.sh" "$here/python-tools.lock"; uname -sm; protoc --version 2>/dev/null || true; } |
        sha256sum | cut -c1-12)
  printf '%s/mcompress/deps-%s\n' "${XDG_CACHE_HOME:-$HOME/.cache}" "$key"
}

install_system_packages() {
  if ! command -v apt-get >/dev/null; then
    say "no apt here; expecting the equivalents of: ${system_packages[*]}"
    return 0
  fi
  local wanted=("${system_packages[@]}") missing=() package
  [[ ${1:-} == checks ]] && wanted+=("${check_packages[@]}")
  for package in "${wanted[@]}"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "these packages are missing and there is no sudo: ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get -q update >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "${missing[@]}" >&2
}

make_tools() {
  say "Python tools (a private environment)"
  python3 -m venv "$prefix/venv" || die "python3 -m venv failed: install python3-venv, or run $0 --system"
  "$prefix/venv/bin/pip" --disable-pip-version-check -q install --only-binary=:all: --require-hashes \
    -r "$here/python-tools.lock" >&2
}

make_onnx() {
  command -v protoc >/dev/null || die "protobuf is missing: run $0 --system, or install libprotobuf-dev protobuf-compiler"
  say "ONNX $ONNX_VERSION from source (about two minutes)"
  "$prefix/venv/bin/unearth" "onnx==$ONNX_VERSION" --no-binary --download "$work" >"$work/unearth.log"
  local sdist=$work/onnx-$ONNX_VERSION.tar.gz
  expect_sha256 "$sdist" "$ONNX_SDIST_SHA256"
  tar -xzf "$sdist" -C "$work"
  local launcher=()
  command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  {
    "$prefix/venv/bin/cmake" -G Ninja -S "$work/onnx-$ONNX_VERSION" -B "$work/onnx-build" \
      -DCMAKE_MAKE_PROGRAM="$prefix/venv/bin/ninja" -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$prefix" \
      -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DCMAKE_CXX_STANDARD=17 "${launcher[@]}" \
      -DPython3_EXECUTABLE="$prefix/venv/bin/python" -DONNX_BUILD_PYTHON=OFF -DONNX_ML=ON \
      -DONNX_USE_PROTOBUF_SHARED_LIBS=ON -DBUILD_SHARED_LIBS=OFF -DONNX_DISABLE_STATIC_REGISTRATION=ON &&
    "$prefix/venv/bin/ninja" -C "$work/onnx-build" install
  } >"$work/onnx.log" 2>&1 || { tail -n 40 "$work/onnx.log" >&2; die "the ONNX library did not build"; }
}

make_runtime() {
  [[ -n $ORT_WHEEL_SHA256 ]] || die "no ONNX Runtime is pinned for $(uname -m): install it and set ONNXRUNTIME_ROOT"
  say "ONNX Runtime $ORT_VERSION"
  printf 'onnxruntime==%s --hash=sha256:%s\n' "$ORT_VERSION" "$ORT_WHEEL_SHA256" >"$work/onnxruntime.txt"
  "$prefix/venv/bin/pip" --disable-pip-version-check -q download --no-deps --only-binary=:all: --require-hashes \
    --platform "$ORT_WHEEL_PLATFORM" --python-version "$ORT_WHEEL_PYTHON" -d "$work" -r "$work/onnxruntime.txt" >&2
  mkdir -p "$prefix/lib" "$prefix/share/doc/onnxruntime"
  "$prefix/venv/bin/python" - "$work"/onnxruntime-"$ORT_VERSION"-*.whl "$prefix" <<'PYTHON'
import pathlib, sys, zipfile
wheel, prefix = sys.argv[1], pathlib.Path(sys.argv[2])
with zipfile.ZipFile(wheel) as z:
    for name in z.namelist():
        base = name.rsplit("/", 1)[-1]
        if base.startswith("libonnxruntime.so."):
            (prefix / "lib" / base).write_bytes(z.read(name))
        elif base in ("LICENSE", "ThirdPartyNotices.txt"):
            (prefix / "share/doc/onnxruntime" / base).write_bytes(z.read(name))
PYTHON
  chmod 755 "$prefix/lib/libonnxruntime.so.$ORT_VERSION"
  ln -sfn "libonnxruntime.so.$ORT_VERSION" "$prefix/lib/libonnxruntime.so.1"
  ln -sfn libonnxruntime.so.1 "$prefix/lib/libonnxruntime.so"
}

# The Debian entry of this machine's own apt sources, with the suite renamed, in a folder of our own.
write_apt_source() {  # FOLDER
  local codename entry='' file
  codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  [[ $(. /etc/os-release && printf '%s' "$ID") == debian && -n $codename ]] || return 1
  for file in /etc/apt/sources.list.d/*.sources; do
    [[ -r $file ]] || continue
    entry=$(awk -v RS= -v suite="$codename" '!/^#?Enabled: *no/ && $0 ~ ("Suites:[^\n]*(^|[ ])" suite "( |\n|$)") {print; exit}' "$file" |
            grep -v '^#' | sed -E "s/^Suites:.*/Suites: $ORT_HEADERS_SUITE/; s/^Types:.*/Types: deb/") || true
    if [[ -n $entry ]]; then printf '%s\n' "$entry" >"$1/debian.sources"; return 0; fi
  done
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [[ -r $file ]] || continue
    entry=$(grep -E "^deb .*[[:space:]]$codename[[:space:]].*main" "$file" | head -n 1 |
            sed -E "s/[[:space:]]$codename[[:space:]].*/ $ORT_HEADERS_SUITE main/") || true
    if [[ -n $entry ]]; then printf '%s\n' "$entry" >"$1/debian.list"; return 0; fi
  done
  return 1
}

make_headers() {
  say "ONNX Runtime headers"
  local apt=$work/apt
  mkdir -p "$apt/sources" "$apt/lists/partial" "$apt/cache/archives/partial"
  write_apt_source "$apt/sources" ||
    die "no Debian package source here to take the ONNX Runtime headers from: install libonnxruntime-dev (or your" \
        "system's ONNX Runtime development package) and set ONNXRUNTIME_ROOT"
  local options=(-q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt/sources"
    -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" -o Acquire::Languages=none
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o APT::Sandbox::User=root)
  {
    apt-get "${options[@]}" update && (cd "$apt" && apt-get "${options[@]}" download "$ORT_HEADERS_PACKAGE")
  } >"$work/apt.log" 2>&1 || { tail -n 20 "$work/apt.log" >&2; die "$ORT_HEADERS_PACKAGE could not be fetched"; }
  dpkg-deb -x "$apt/${ORT_HEADERS_PACKAGE}"_*.deb "$apt/root"
  (cd "$apt/root/usr/include/onnxruntime" && find . -type f | LC_ALL=C sort | xargs sha256sum) >"$apt/headers.sha256"
  expect_sha256 "$apt/headers.sha256" "$ORT_HEADERS_SHA256"
  mkdir -p "$prefix/include"
  rm -rf "$prefix/include/onnxruntime"
  cp -r "$apt/root/usr/include/onnxruntime" "$prefix/include/"
}

make_testdata() {
  say "ONNX's backend test data"
  rm -rf "$prefix/onnx-testdata" "$prefix/onnx-testdata.new"
  "$prefix/venv/bin/python" "$here/onnx_testdata.py" "$prefix/onnx-testdata.new" >"$work/testdata.log" 2>&1 ||
    { tail -n 20 "$work/testdata.log" >&2; die "the backend test data could not be written"; }
  mv "$prefix/onnx-testdata.new" "$prefix/onnx-testdata"
}

step() {  # NAME: runs make_NAME once per prefix
  [[ -e $prefix/stamps/$1 ]] && return 0
  "make_$1"
  touch "$prefix/stamps/$1"
}

system=
for argument in "$@"; do
  case $argument in
    --system) system=build ;;
    --system-checks) system=checks ;;
    --print-prefix) prefix_path; exit 0 ;;
    -h|--help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) die "unknown argument $argument (see --help)" ;;
  esac
done
[[ -z $system ]] || install_system_packages "$system"

prefix=$(prefix_path)
if [[ ! -e $prefix/stamps/complete ]]; then
  mkdir -p "$prefix/stamps"
  exec 9>"$prefix/stamps/lock"
  command -v flock >/dev/null && flock 9
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  step tools
  step headers
  step runtime
  step onnx
  step testdata
  touch "$prefix/stamps/complete"
fi
say "dependencies are in $prefix"
