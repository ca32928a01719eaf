#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the Debian packages of the tree's tracked files into build/deb and lets lintian look at them. layerskip-cuda is among them where nvcc is (CUDA=no: not).
#   scripts/deb.sh
set -eu
cd "$(dirname "$0")/.."
version=$(dpkg-parsechangelog -S Version)
wanted=$(sed -n 's/^project(layerskip VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
[[ $version == "$wanted" ]] || { echo "debian/changelog is of version $version, CMakeLists.txt of $wanted: write an entry" >&2; exit 65; }
profiles=nocheck
if [[ ${CUDA-} != no ]] && command -v nvcc >/dev/null; then
    profiles+=,pkg.layerskip.cuda
fi
tree=build/deb/layerskip-$version
mkdir -p "$tree"
# Everything but the objects is made anew: a second build compiles what has changed.
find build/deb -maxdepth 1 -type f -delete
find "$tree" -mindepth 1 -maxdepth 1 ! -name 'obj-*' -exec rm -rf {} +
git ls-files -z | tar -c --null -T - | tar -x -C "$tree"
# With the system's own tools, whatever else the caller's PATH has.
if ! (cd "$tree" && PATH=/usr/sbin:/usr/bin:/sbin:/bin DEB_BUILD_OPTIONS="nocheck parallel=$(nproc) noautodbgsym" \
    dpkg-buildpackage --build=binary --no-sign --build-profiles="$profiles" --no-pre-clean) >build/deb/build.log 2>&1; then
    tail -n 40 build/deb/build.log >&2
    exit 70
fi
lintian --info --display-info --pedantic --fail-on error,warning build/deb/*.changes
ls -l build/deb/*.deb
