#!/usr/bin/env bash
# Puts a release that `make dist` made into a registry: image and chart, both signed, and the image's bills of materials
# attested. Signatures are keyless (cosign with the identity of the workflow that runs this).
#   publish.sh VERSION REGISTRY     such as: publish.sh 0.1.0 ghcr.io/example
# Needs skopeo, helm and cosign, and a login of each to the registry. TRIAL=1 is for a registry on this machine: it
# speaks plain HTTP and signs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1 registry=$2 trial=${TRIAL:-}
dist=target/dist
name=$dist/migration-gate-$version

if [ -z "$trial" ] && ! git tag --points-at HEAD | grep -qxF "v$version"; then
  echo "HEAD is not tagged v$version: a release is what a tag names" >&2
  exit 1
fi
(cd "$dist" && sha256sum --check --quiet SHA256SUMS)

# The digests stay as `make dist` made them.
skopeo copy --all --preserve-digests ${trial:+--dest-tls-verify=false} --digestfile target/image.digest \
  "oci-archive:$name-image.tar" "docker://$registry/migration-gate:$version"
image=$registry/migration-gate@$(cat target/image.digest)

helm push ${trial:+--plain-http} "$name-chart.tgz" "oci://$registry/charts" 2>&1 | tee target/chart.push
chart=$registry/charts/migration-gate@$(sed -n 's/^Digest: *//p' target/chart.push)

echo "image: $image"
echo "chart: $chart"
if [ -n "$trial" ]; then exit; fi

cosign sign --yes --recursive "$image"
cosign sign --yes "$chart"
for bill in "$name"-*.cdx.json; do
  cosign attest --yes --type cyclonedx --predicate "$bill" "$image"
done
cosign sign-blob --yes --bundle "$dist/SHA256SUMS.sigstore.json" "$dist/SHA256SUMS"
