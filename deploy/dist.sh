#!/usr/bin/env bash
# Puts together what a release consists of, in target/dist: `make dist` calls it when programs and image are built.
# The same commit gives the same bytes, on any machine with the same Rust toolchain and the same C library.
#   dist.sh VERSION TARGET…; SOURCE is the repository's address, for the krew manifest
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1 targets=("${@:2}")
name=migration-gate-$version
dist=$PWD/target/dist
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
archive() { # name, then tar's arguments: a tar.gz that depends on nothing but what is in it
  tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX --dereference \
    --create --file - "${@:2}" | gzip --no-name --best > "$dist/$1"
}

# What is committed, and nothing else.
source=$dist/source
mkdir "$source"
git archive HEAD | tar --extract --directory "$source"

for target in "${targets[@]}"; do
  built=target/$target
  archive "$name-$target.tar.gz" -C "$PWD/$built/release" migration-gate -C "$PWD/target" man -C "$source" LICENSE
  archive "$name-agent-$target.tar.gz" -C "$PWD/$built/agent" migration-gate-agent -C "$source" LICENSE

  # Of every package at once; it names those of the workspace by where they lie.
  "$tools/bin/cargo-cyclonedx" cyclonedx --quiet --manifest-path "$source/Cargo.toml" --target "$target" \
    --format json --spec-version 1.5 --no-build-deps --override-filename bill
  sed "s#$source##g" "$source/bill.json" > "$dist/$name-$target.cdx.json"
  sed "s#$source##g" "$source/agent/bill.json" > "$dist/$name-agent-$target.cdx.json"
done

mkdir "$dist/chart"
cp --recursive --dereference "$source/deploy/chart" "$dist/chart/migration-gate"
archive "$name-chart.tgz" -C "$dist/chart" migration-gate
cp target/migration-gate-index.tar "$dist/$name-image.tar"

# kubectl's plugin manager: where each platform's archive is, and what its checksum has to be.
plugin=$dist/migration-gate.krew.yaml
fill=(-e "s#@VERSION@#$version#g" -e "s#@SOURCE@#${SOURCE:-@SOURCE@}#g")
for target in "${targets[@]}"; do
  sum=$(sha256sum "$dist/$name-$target.tar.gz")
  fill+=(-e "s#@SHA256 $target@#${sum%% *}#g")
done
sed '/^#/d' deploy/krew.yaml | sed "${fill[@]}" > "$plugin"
if missing=$(grep -o '@[A-Z0-9]* *[a-z0-9_-]*@' "$plugin" | sort -u | tr '\n' ' '); then
  echo "no krew manifest, because these are not known: $missing(SOURCE=https://… names the repository)" >&2
  rm "$plugin"
fi

rm -rf "$source" "$dist/chart"
cd "$dist"
sha256sum -- * > SHA256SUMS
stat --format '%12s  %n' -- *
