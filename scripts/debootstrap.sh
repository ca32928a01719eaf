#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs our packages, with what apt finds they need, into a fresh Debian 12 and uses them there: program, library, headers, Python. As root.
#   scripts/debootstrap.sh FOLDER-WITH-PACKAGES [ROOT]
# ROOT is made where it is not there yet, and kept; without it a temporary one is used. MIRROR: where Debian comes from (as the first line of apt's own sources).
set -eu
packages=$(realpath "${1:?usage: scripts/debootstrap.sh FOLDER-WITH-PACKAGES [ROOT]}")
[[ $(id -u) == 0 ]] || { echo "a Debian can be set up in a folder by root alone: sudo make deb-check" >&2; exit 77; }
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 69; }
mirror=${MIRROR:-$(cat /etc/apt/sources.list /etc/apt/sources.list.d/debian* 2>/dev/null | grep -m1 -oE '(https?|file)://[^ ]*debian/?( |$)' || echo http://deb.debian.org/debian)}
root=${2:-$(mktemp -d)}
log=$(mktemp)
cleanup() {
    mountpoint -q "$root/proc" && umount "$root/proc"
    rm -f "$log"
    [[ ${given-} ]] || rm -rf --one-file-system "$root"
}
given=${2-}
trap cleanup EXIT
quietly() { "$@" >"$log" 2>&1 || { tail -n 30 "$log" >&2; echo "failed: $*" >&2; exit 1; }; }
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive LAYERSKIP_DEVICE=cpu "$@"; }

if [[ ! -e $root/usr/bin/apt-get ]]; then
    echo "a fresh Debian 12 from $mirror"
    quietly debootstrap --variant=minbase bookworm "$root" "$mirror"
    rm -rf "$root"/var/cache/apt/archives/*.deb
fi
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc" || echo "without /proc"
cp /etc/resolv.conf "$root/etc/"
mkdir -p "$root/packages"
rm -f "$root"/packages/*
cp "$packages"/*.deb "$root/packages"
rm -f "$root"/packages/layerskip-cuda_*.deb # there is no driver
installed() { inside dpkg-query -W -f '${Package}\n' | wc -l; }
before=$(installed)
quietly inside apt-get update
quietly inside sh -c 'apt-get install -y --no-install-recommends /packages/layerskip_*.deb /packages/liblayerskip0_*.deb'
echo "the program and its library: $(($(installed) - before)) packages"
quietly inside layerskip synth --shape tiny /tiny --no-progress
inside layerskip run /tiny -p "Once upon a time" -n 64 --exit-layer 2 --num-speculations 3 --stats none >"$log"
inside layerskip run /tiny -p "Once upon a time" -n 64 --num-speculations 0 --stats none | cmp - "$log"
[[ $(wc -c <"$log") -gt 20 ]] || { echo "layerskip run wrote nothing" >&2; exit 1; }
cp "$log" "$root/wanted"
inside layerskip verify /tiny -p Once -n 32 --exit-layer 1-3 --num-speculations 1-4 | tail -n 1
inside layerskip pull no/such --offline 2>&1 | grep -q . # the hub is built in
inside sh -c 'ldd /usr/bin/layerskip | grep -q liblayerskip.so.0 && test -s /usr/share/man/man1/layerskip-run.1.gz -a -s /usr/share/bash-completion/completions/layerskip'

quietly inside sh -c 'apt-get install -y --no-install-recommends /packages/*.deb gcc libc6-dev pkgconf cmake make'
quietly inside sh -euc 'examples=/usr/share/doc/liblayerskip-dev/examples
    cc $examples/simple.c $(pkg-config --cflags --libs layerskip) -o /simple && /simple /tiny "Once upon a time" | cmp - /wanted
    cmake -S $examples -B /examples && cmake --build /examples && /examples/compare_static /tiny 2 3 Once | grep -x "the same tokens"'
quietly inside python3 -c 'import layerskip; print(layerskip.Model("/tiny", context=128).generate("Once upon a time", max_tokens=64).text, file=open("/said", "w"))'
inside cmp /said /wanted
quietly inside apt-get purge -y layerskip liblayerskip0 liblayerskip-dev python3-layerskip
left=$(inside find /usr /etc /var/lib -xdev -name '*layerskip*')
[[ ! $left ]] || { echo "left behind: $left" >&2; exit 1; }
echo "installed, used by the program, C, CMake and Python, and removed without a trace"
