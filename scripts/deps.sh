#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Debian packages that the project needs: says what is missing, or installs it (as root or with sudo). Quiet when all is there.
#   scripts/deps.sh say|install build|demo|test|package
set -eu

# package|what works when it is there
# shellcheck disable=SC2034 # named by the second argument
build="gcc|gcc --version
libc6-dev|echo '#include <stdio.h>' | gcc -E -
cmake|cmake --version
ninja-build|ninja --version
pkg-config|pkg-config --version
libjansson-dev|pkg-config --exists jansson"
# Line editing in `chat` and downloads from the hub: everything else builds and works without, so only installing asks for them.
optional="libedit-dev|pkg-config --exists libedit
libcurl4-openssl-dev|pkg-config --exists libcurl
libssl-dev|pkg-config --exists libcrypto"
# shellcheck disable=SC2034
demo="$build
python3|python3 --version
python3-pip|python3 -m pip --version"
# shellcheck disable=SC2034
test="$demo
python3-jsonschema|python3 -c 'import jsonschema'
python3-venv|python3 -c 'import ensurepip'
libcmocka-dev|pkg-config --exists cmocka
python3-jinja2|python3 -c 'import jinja2'
libopenblas0-pthread|python3 -c 'import ctypes; ctypes.CDLL(\"libopenblas.so.0\")'
gnuplot-nox|gnuplot --version
g++|g++ --version
mandoc|mandoc -T lint /dev/null || [ $? -lt 5 ]
zsh|zsh --version
fish|fish --version
universal-ctags|ctags --version | grep Universal
clang|clang --version
libclang-rt-14-dev|echo 'int LLVMFuzzerTestOneInput(const char *p, long n) { return p && n; }' | clang -fsanitize=fuzzer,address -x c - -o /dev/null
valgrind|valgrind --version"

# shellcheck disable=SC2034
package="$build
debhelper|dpkg -s debhelper
dpkg-dev|dpkg-buildpackage --version
lintian|lintian --version
debootstrap|debootstrap --version
dh-python|dh_python3 --help
pybuild-plugin-pyproject|dpkg -s pybuild-plugin-pyproject
python3-all|dpkg -s python3-all
python3-setuptools|/usr/bin/python3 -c 'import setuptools'"

find_missing() { # prints the packages of the table on stdin whose probe fails
    while IFS='|' read -r package probe; do
        bash -c "$probe" >/dev/null 2>&1 || echo "$package"
    done
}

[[ ${1-} == @(say|install) && ${2-} == @(build|demo|test|package) ]] || { echo "usage: scripts/deps.sh say|install build|demo|test|package" >&2; exit 64; }
table=${!2}
[[ $1 == say ]] || table+=$'\n'$optional
missing=$(find_missing <<<"$table" | tr '\n' ' ')
[[ $missing ]] || exit 0
missing=${missing% }
if [[ $1 == say ]]; then
    echo "missing: $missing" >&2
    echo "install with: make deps   (or: apt-get install $missing)" >&2
    exit 69
fi
command -v apt-get >/dev/null || { echo "this system has no apt-get: install by hand what these Debian packages hold: $missing" >&2; exit 69; }
sudo=
if [[ $(id -u) != 0 ]]; then
    sudo=sudo
    command -v sudo >/dev/null || { echo "as root, run: apt-get install $missing" >&2; exit 77; }
fi
echo "installing $missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o Acquire::Retries=2 "$@" >>"$log" 2>&1; }
# shellcheck disable=SC2086 # a list of words
if ! { apt update && apt install -y --no-install-recommends $missing; }; then
    echo "apt-get could not install them: $(grep -m1 -E '^(E|Err):' "$log" || tail -n 1 "$log")" >&2
    exit 69
fi
