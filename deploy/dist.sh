#!/usr/bin/env bash
# Puts together what a release consists of, in target/dist: `make dist` calls it when programs and image are built.
# The same commit gives the same bytes, on any machine with the same Rust toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1 target=$2
name=migration-gate-$version
dist=$PWD/target/dist
built=target/$target
# The tool that knows what the programs are made of.
cyclonedx=0.5.9 tools=$PWD/target/tools

# Times in archives and documents are the commit's.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH LC_ALL=C

if ! "$tools/bin/cargo-cyclonedx" cyclonedx --version 2>/dev/null | grep -qF " $cyclonedx"; then
  echo "installing cargo-cyclonedx $cyclonedx into target/tools (a minute or two)" >&2
  cargo install --quiet --locked --version "$cyclonedx" --root "$tools" cargo-cyclonedx
fi

rm -rf "$dist"
mkdir -p "$dist"
archive() { # name, folder, files: a tar.gz that depends on nothing but what is in it
  tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=go-w --dereference \
    --create --file - --directory "$2" "${@:3}" | gzip --no-name --best > "$dist/$1"
}

# What is committed, and nothing else.
source=$dist/source
mkdir "$source"
git archive HEAD | tar --extract --directory "$source"

archive "$name-$target.tar.gz" "$built/release" migration-gate
archive "$name-agent-$target.tar.gz" "$built/agent" migration-gate-agent
mkdir "$dist/chart"
cp --recursive --dereference "$source/deploy/chart" "$dist/chart/migration-gate"
archive "$name-chart.tgz" "$dist/chart" migration-gate
cp target/migration-gate.tar "$dist/$name-image.tar"

# Of every package at once; it names those of the workspace by where they lie.
"$tools/bin/cargo-cyclonedx" cyclonedx --quiet --manifest-path "$source/Cargo.toml" --target "$target" \
  --format json --spec-version 1.5 --no-build-deps --override-filename bill
sed "s#$source##g" "$source/bill.json" > "$dist/$name-$target.cdx.json"
sed "s#$source##g" "$source/agent/bill.json" > "$dist/$name-agent-$target.cdx.json"

rm -rf "$source" "$dist/chart"
cd "$dist"
sha256sum -- * > SHA256SUMS
stat --format '%12s  %n' -- *
