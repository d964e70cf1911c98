#!/usr/bin/env bash
# Runs an arm64 program, and every arm64 program that it starts, on another processor by QEMU's user-mode emulation.
# A runner for cargo: CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=tests/emulated.sh
#
# The kernel is told of QEMU inside a user namespace, which ends with the program: nothing is registered for the machine.
# Needs Linux 6.7 or newer, root, and Debian's package qemu-user-static.
set -euo pipefail
if [ "$(uname -m)" = aarch64 ]; then exec "$@"; fi
qemu=$(command -v qemu-aarch64-static) || { echo "qemu-aarch64-static is missing: apt-get install qemu-user-static" >&2; exit 1; }
# An ELF file of 64 bits, little-endian, executable or shared, for processor 183; the mask leaves out what may differ.
register=':arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
register+=':\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
register+=":$qemu:F"

# The namespace's first program waits until its users are mapped, all of them: tests become somebody else. The program
# after it is its root again.
pipes=$(mktemp --directory)
trap 'rm -rf "$pipes"' EXIT
mkfifo "$pipes/mapped"
# shellcheck disable=SC2016 # they expand in there
REGISTER=$register unshare --user --mount bash -c '
  read -r < "$0/mapped"
  exec bash -c "
    set -e
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    printf %s \"\$REGISTER\" > /proc/sys/fs/binfmt_misc/register
    unset REGISTER
    exec \"\$@\"" bash "$@"' "$pipes" "$@" &
child=$!
until [ "$(readlink "/proc/$child/ns/user")" != "$(readlink /proc/self/ns/user)" ]; do
  kill -0 "$child" # It ends with its own message where user namespaces are forbidden.
done
echo 0 0 4294967295 > "/proc/$child/uid_map"
echo 0 0 4294967295 > "/proc/$child/gid_map"
echo > "$pipes/mapped"
wait "$child"
