#!/usr/bin/env bash
# Makes sure that this machine can build static programs for a Rust target, and installs what is missing: the target's
# standard library by rustup, the linker and the C library by apt-get. Where it can't, it says what is missing and stops.
set -euo pipefail
target=$1
host=$(rustc -vV | sed -n 's/^host: //p')

refuse() {
  echo "$target can't be built here: $1; \`make dist TARGETS=$host\` makes a release without it" >&2
  exit 1
}

case $target in
  "$host") exit ;;
  aarch64-unknown-linux-gnu) linker=aarch64-linux-gnu-gcc packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;;
  x86_64-unknown-linux-gnu) linker=x86_64-linux-gnu-gcc packages="gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;;
  *) refuse "releases are for x86_64-unknown-linux-gnu and aarch64-unknown-linux-gnu" ;;
esac

if ! [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
  command -v rustup > /dev/null || refuse "Rust's standard library for it is missing, and there is no rustup to get it"
  echo "installing Rust's standard library for $target" >&2
  rustup target add "$target" || refuse "rustup could not get Rust's standard library for it"
fi
if ! command -v "$linker" > /dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then refuse "$linker is missing (Debian: $packages)"; fi
  echo "installing $packages" >&2
  # shellcheck disable=SC2086 # a list of names
  apt-get install --yes --quiet --no-install-recommends $packages >&2 || refuse "apt-get could not install $packages"
fi
