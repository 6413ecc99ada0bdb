#!/usr/bin/env bash
# Installs what is missing: .ci/setup.sh build|test
#   build  what building and the demonstration need
#   test   that, and what the tests need (a Python environment in target/venv among it)
set -euo pipefail
cd "$(dirname "$0")/.."

build=(gcc g++ libc6-dev make clang python3)
test=("${build[@]}" binutils python3-venv sqlite3 gawk lua5.4 ruby redis-server redis-tools libjemalloc2 libjemalloc-dev libmimalloc-dev libgoogle-perftools-dev musl-tools gdb qemu-system-x86 busybox-static cpio)

sudo=
[ "$(id -u)" -eq 0 ] || sudo=sudo

case "${1:-}" in
build) wanted=("${build[@]}") ;;
test) wanted=("${test[@]}") ;;
*) echo "usage: $0 build|test" >&2; exit 2 ;;
esac

missing=()
for package in "${wanted[@]}"; do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
    echo "installing ${missing[*]}" >&2
    $sudo apt-get -qq update
    # A server that a test starts for itself must not be started for the machine.
    $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
fi
if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust 1.88 or newer, see https://rustup.rs" >&2
    exit 1
fi
[ "$1" = test ] || exit 0

# The kernels for the virtual machines are looked up in the package lists.
apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || $sudo apt-get -qq update

# The environment is made anew when the list of packages changes.
venv=target/venv
stamp=$venv/requirements.txt
if ! cmp -s notebooks/requirements.txt "$stamp"; then
    mkdir -p target
    rm -rf "$venv"
    /usr/bin/python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r notebooks/requirements.txt
    cp notebooks/requirements.txt "$stamp"
fi
