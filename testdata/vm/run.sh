#!/usr/bin/env bash
# Records test programs under Debian's kernels 6.1 and 6.12, each in a virtual machine of its own.
#
#   testdata/vm/run.sh [6.1|6.12 …]
#
# The machine is a busybox initramfs with the two binaries, the test programs and their libraries.
# It has /proc and /sys, but neither tracefs nor debugfs nor bpffs: the recorder must not need them.
# Results leave it over the second serial line; check.py holds them against the programs' truth.
# Prints PASS or FAIL per kernel; exits 1 if any failed. The console is in target/vm/KERNEL.console.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
cache=$repository/target/vm
programs=$repository/target/programs
record=${MEMLEAK_RECORD:-$repository/target/release/memleak-record}
analyze=${MEMLEAK_ANALYZE:-$repository/target/release/memleak-analyze}
# Under emulation a machine needs a fraction of it; a hung one must end.
limit_s=300

need() { # command package
    command -v "$1" >/dev/null || { echo "$1 is missing: make setup, or apt-get install $2" >&2; exit 1; }
}

# Prints the path of the newest kernel image of a series, from the cache or Debian's archive.
kernel_image() { # series
    local package pattern="^linux-image-${1//./\\.}\\.[0-9].*-cloud-amd64\$"
    package=$(apt-cache search --names-only "$pattern" | cut -d' ' -f1 | sort -V | tail -n 1)
    if [ -z "$package" ]; then
        # Without package lists (or without a network) an image fetched earlier serves.
        package=$(find "$cache" -maxdepth 1 -name "linux-image-$1.*" -printf '%f\n' | sort -V | tail -n 1)
    fi
    if [ -z "$package" ]; then
        echo "no kernel $1 for the cloud in Debian's package lists: run apt-get update" >&2
        return 1
    fi
    if ! compgen -G "$cache/$package/boot/vmlinuz-*" >/dev/null; then
        local fetched=$cache/fetched
        rm -rf "$fetched" && mkdir -p "$fetched"
        (cd "$fetched" && apt-get -qq -o APT::Sandbox::User=root download "$package" >&2)
        # Only the image is used; a rename at the end, so that an interrupted run leaves no half.
        dpkg-deb --fsys-tarfile "$fetched"/*.deb | tar -x -C "$fetched" --wildcards './boot/vmlinuz-*'
        rm -rf "${cache:?}/$package" && mv "$fetched" "$cache/$package"
        rm -f "$cache/$package"/*.deb
    fi
    echo "$cache/$package"/boot/vmlinuz-*
}

# Copies a program with the libraries it is linked to.
install_program() { # root program
    install -D "$2" "$1/bin/$(basename "$2")"
    { ldd "$2" || true; } | grep -oE '/[^ ]+' | while read -r library; do
        [ -e "$1$library" ] || install -D "$(readlink -f "$library")" "$1$library"
    done
}

make_initramfs() { # file
    local root
    root=$(mktemp -d "$cache/root.XXXXXX")
    mkdir -p "$root"/{bin,proc,sys,dev,tmp}
    install /bin/busybox "$root/bin/busybox"
    install "$here/init" "$root/init"
    install_program "$root" "$record"
    install_program "$root" "$analyze"
    strip "$root"/bin/memleak-*
    # As they are built: their debug information is part of what is tested.
    install_program "$root" "$programs/test_memleak"
    install_program "$root" "$programs/family"
    install_program "$root" "$programs/kernel_objects"
    install_program "$root" "$programs/both_sides"
    (cd "$root" && find . | cpio --quiet -o -H newc) >"$1"
    rm -rf "$root"
}

boot() { # series initramfs
    local image results=$cache/$1.results console=$cache/$1.console
    image=$(kernel_image "$1") || return 1
    rm -f "$results" "$console"
    # Emulated also where /dev/kvm exists: nested virtualization is not to be relied on. By one thread for both
    # processors: with two, one of them may go on executing the breakpoint through which the kernel switches a
    # tracepoint on, after it is gone, and both hang there (seen twice with QEMU 7.2, at __alloc_pages+0x20f).
    timeout "$limit_s" qemu-system-x86_64 -accel tcg,thread=single -cpu max -m 2G -smp 2 \
        -kernel "$image" -initrd "$2" -append "console=ttyS0 panic=-1 quiet" \
        -no-reboot -display none -monitor none -nodefaults \
        -serial "file:$console" -serial "file:$results" </dev/null 2>"$cache/$1.qemu" ||
        { echo "qemu ended with $? (124: not done within $limit_s s)" >&2; tail -n 5 "$cache/$1.qemu" >&2; }
    [ -s "$results" ] || { echo "the machine gave no results; its console says:" >&2; tail -n 20 "$console" >&2; return 1; }
    python3 "$here/check.py" "$1" "$results"
}

need qemu-system-x86_64 qemu-system-x86
need busybox busybox-static
need cpio cpio
need strip binutils
need python3 python3
for program in "$record" "$analyze"; do
    [ -x "$program" ] || { echo "$program is missing: cargo build --release --workspace" >&2; exit 1; }
done
mkdir -p "$cache"
make --silent -C "$repository/testdata/programs" OUT="$programs"
initramfs=$cache/initramfs.cpio
make_initramfs "$initramfs"

failed=0
for series in "${@:-6.1 6.12}"; do
    for kernel in $series; do
        if boot "$kernel" "$initramfs"; then
            echo "PASS kernel $kernel"
        else
            echo "FAIL kernel $kernel (console: target/vm/$kernel.console)"
            failed=1
        fi
    done
done
exit "$failed"
