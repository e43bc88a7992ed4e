#!/usr/bin/env bash
# Checks the clients of other languages: clients/check.sh [PART ...], by default all parts.
# Needs what `make install-dev` installs, and the language of each part.
set -euo pipefail
cd "$(dirname "$0")"
generated=$(mktemp -d)
trap 'rm -rf "$generated"' EXIT

install_packages() {
    [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent
}

check_go() (
    cd go
    ./generate.sh "$generated"
    diff -r "$generated/clients/go/ingot/v1" ingot/v1
    unformatted=$(gofmt -l .)
    [ -z "$unformatted" ] || { echo "gofmt -w these files: $unformatted" >&2; exit 1; }
    go mod tidy -diff
    go vet ./...
    go test ./...
)

check_typescript() (
    install_packages
    cd typescript
    ./generate.sh "$generated"
    for package in ingot google; do
        diff -r "$generated/clients/typescript/src/v1/$package" "src/v1/$package"
    done
    npm run --silent check
)

check_dashboard() (
    install_packages
    cd dashboard
    npm run --silent check
    npx vite build --logLevel warn --outDir "$generated/page" --emptyOutDir
    diff -r "$generated/page" ../../server/ingot_server/page
)

check_attestation() (
    install_packages
    cd attestation
    npm run --silent check
    node build.js "$generated/attestation"
    for file in attestation.js attestation.LICENSES.txt; do
        cmp "$generated/$file" "../../server/ingot_server/extractor/$file"
    done
)

[ $# -gt 0 ] || set -- typescript go dashboard attestation
for part; do
    "check_$part"
done
