#!/bin/bash
# Build the test guest from Debian packages only: a stock kernel and an initramfs with ALSA's tools.
#   build.sh DIRECTORY      leaves vmlinux (if it can be had), vmlinuz, base.cpio and manifest.txt there
# Needs apt-get, dpkg, python3 and gcc; zstd for vmlinux, which boots faster. Root is not needed: apt runs
# with all of its state under DIRECTORY and does not touch the machine's own.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh DIRECTORY}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$out/work
. /etc/os-release
code=${VERSION_CODENAME:?}
# bookworm's own kernel lacks CONFIG_SND_VIRTIO.
suite=$code
[ "$code" != bookworm ] || suite=bookworm-backports

# --- packages, by an apt of our own ------------------------------------------------------------------
mkdir -p "$work"/apt/{parts,state/lists/partial,cache/archives/partial} "$work"/{debs,kernel,user}
: >"$work/apt/status"
for s in $(printf '%s\n' "$code" "$suite" | sort -u); do
    "$here/../../../scripts/apt-suite" "$s" >"$work/apt/parts/$s.sources"
done
apt=(-q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/apt/parts"
    -o Dir::State="$work/apt/state" -o Dir::State::status="$work/apt/status" -o Dir::Cache="$work/apt/cache"
    -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none)
apt-get "${apt[@]}" update
kernel=$(apt-cache "${apt[@]}" -o APT::Default-Release="$suite" depends linux-image-amd64 |
    awk '/Depends: linux-image-/ {print $2; exit}')
packages=(busybox-static alsa-utils libasound2-data libatopology2 libc6)
# trixie renamed libasound2.
if apt-cache "${apt[@]}" show libasound2t64 >/dev/null 2>&1; then
    packages+=(libasound2t64)
else
    packages+=(libasound2)
fi
(cd "$work/debs" && apt-get "${apt[@]}" download "${packages[@]}" "${kernel:?no kernel in $suite}")
for deb in "$work"/debs/*.deb; do
    case $deb in
    */linux-image-*) dpkg -x "$deb" "$work/kernel" ;;
    *) dpkg -x "$deb" "$work/user" ;;
    esac
done

# --- kernel -------------------------------------------------------------------------------------------
release=$(cd "$work/kernel/boot" && ls vmlinuz-*)
release=${release#vmlinuz-}
modules=$(find "$work/kernel" -maxdepth 4 -type d -path "*/lib/modules/$release" | head -n 1)
grep -q '^CONFIG_SND_VIRTIO=[my]' "$work/kernel/boot/config-$release" || {
    echo "build.sh: $kernel has no virtio sound driver" >&2
    exit 1
}
cp "$work/kernel/boot/vmlinuz-$release" "$out/vmlinuz"
python3 "$here/contents.py" vmlinux "$out/vmlinuz" "$out/vmlinux" || rm -f "$out/vmlinux"

# --- root ---------------------------------------------------------------------------------------------
root=$work/root
mkdir -p "$root"/{bin,usr/bin,usr/sbin,usr/share,lib64,lib/x86_64-linux-gnu,root,etc,dev,proc,sys,tmp,run,rig}
cp "$(find "$work/user" -path '*bin/busybox' | head -n 1)" "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
cp -a "$work"/user/usr/bin/{aplay,arecord,amixer,speaker-test} "$root/usr/bin/"
cp -a "$work/user/usr/sbin/alsactl" "$root/usr/sbin/"
cp -a "$work/user/usr/share/alsa" "$root/usr/share/"
mkdir -p "$root/usr/share/sounds"
cp -a "$work/user/usr/share/sounds/alsa" "$root/usr/share/sounds/"
python3 "$here/contents.py" libraries "$work/user" "$root"
gcc -O2 -Wall -Wextra -static -o "$root/usr/bin/rawpcm" "$here/rawpcm.c"
install -m 755 "$here/init" "$root/init"
python3 "$here/contents.py" modules "$modules" "$root/lib/modules" virtio_pci virtio_console virtio_snd virtio_rng
python3 "$here/newc.py" "$root" "$out/base.cpio"

{
    echo "suite $suite"
    echo "kernel $kernel $release"
    (cd "$work/debs" && sha256sum ./*.deb)
} >"$out/manifest.txt"
rm -rf "$work"
