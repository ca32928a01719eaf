#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` leaves is complete: the examples are built against it by pkg-config, by CMake, and with the archive, and run; pages and completions are there; nothing remembers
# the build folder. usage: LSK_PROGRAM=BUILD/layerskip install.sh (arguments are not used)
set -u
build=$(realpath "$(dirname "${LSK_PROGRAM:?the program to test}")") || exit
root=$(realpath "$(dirname "$0")/../..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit
unset "${!LAYERSKIP_@}" LD_LIBRARY_PATH
export LAYERSKIP_DEVICE=cpu CMAKE_BUILD_PARALLEL_LEVEL=2
failures=0 checks=0

check() { # WHAT COMMAND...
    local what=$1
    shift
    checks=$((checks + 1))
    "$@" >out 2>err && return
    failures=$((failures + 1))
    printf 'FAILED: %s\n  %s\n  stdout: %s\n  stderr: %s\n' "$what" "$*" "$(head -c 600 out)" "$(head -c 600 err)"
}
holds() { [ -s "$1" ] || { echo "$1 is not there"; false; }; }
lacks() { ! grep -rlF -- "$1" "${@:2}"; }

[ -f "$build/man/layerskip.1" ] && [ -f "$build/liblayerskip.a" ] || { echo "skipped: ninja product has not been built"; exit 77; }
check "installing" env DESTDIR="$work/stage" cmake --install "$build" --prefix /opt/lsk
check "DESTDIR comes before the prefix" test -d stage/opt/lsk/bin
check "moving it where the prefix says" mv stage/opt/lsk there
libraries=$(dirname "$(find there -name liblayerskip.so.0)")
prefix=$work/there
for file in bin/layerskip include/layerskip.h share/man/man1/layerskip.1 share/man/man1/layerskip-generate-corpus.1 share/man/man3/layerskip.3 share/man/man5/layerskip-profile.5 \
    share/man/man7/layerskip.7 share/bash-completion/completions/layerskip share/zsh/site-functions/_layerskip share/fish/vendor_completions.d/layerskip.fish; do
    check "installed" holds "there/$file"
done
check "no file knows the build folder" lacks "$build" there/include there/share "$libraries/pkgconfig" "$libraries/cmake"
check "the prefix in the .pc file" grep -qx 'prefix=/opt/lsk' "$libraries/pkgconfig/layerskip.pc"
check "every command has a page" diff <("$build/layerskip" --help | awk '/^commands/ { on = 1; next } /^$/ { on = 0 } on { print $1 }' | sort) \
    <(find there/share/man/man1 -name 'layerskip-*.1' | sed 's/.*layerskip-\(.*\)\.1/\1/' | sort)

# Whoever links the archive meets lsk_* alone.
check "the archive's names" diff /dev/null <(nm -g --defined-only "$libraries/liblayerskip.a" | awk 'NF == 3 && $3 !~ /^lsk_/')

check "a model" there/bin/layerskip synth --shape tiny tiny --no-progress
there/bin/layerskip run tiny -p Once -n 64 --stats none >wanted
runs() { # WHAT FOLDER SUFFIX
    check "$1: simple" "$2/simple$3" tiny Once
    mv out said
    check "$1: the program's text" cmp wanted said
    check "$1: compare" "$2/compare$3" tiny 2 3 Once
    mv out said
    check "$1: the same tokens" grep -qx 'the same tokens' said
}
flags() { PKG_CONFIG_LIBDIR=$libraries/pkgconfig:$(pkg-config --variable pc_path pkg-config) pkg-config --define-variable=prefix="$prefix" "$@" layerskip; }
mkdir plain static
for name in simple compare; do
    # shellcheck disable=SC2046 # lists of words
    check "pkg-config: $name" cc -Wall -Wextra -Werror "$root/examples/$name.c" $(flags --cflags) $(flags --libs) -Wl,-rpath,"$(realpath "$libraries")" -o "plain/$name"
    # shellcheck disable=SC2046
    check "pkg-config --static: $name" cc "$root/examples/$name.c" $(flags --cflags) -Wl,-Bstatic $(flags --libs) -Wl,-Bdynamic $(flags --static --libs-only-l | sed 's/-llayerskip//') -pthread -o "static/$name"
done
runs "shared" plain ""
check "the archive is inside" lacks liblayerskip.so static/simple
runs "static" static ""
check "CMake: configuring" cmake -S "$root/examples" -B cmake -G Ninja -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Debug
check "CMake: building" cmake --build cmake
runs "CMake, shared" cmake _layerskip
runs "CMake, static" cmake _static

echo "$checks checks, $failures failed"
[ $failures = 0 ]
