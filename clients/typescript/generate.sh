#!/bin/sh
# Generates clients/typescript/src/v1 from proto/ below the folder in $1; the default is the checkout.
set -eu
cd "$(dirname "$0")/../.."
output=${1:-.}
[ -x clients/node_modules/.bin/protoc-gen-es ] || npm --prefix clients ci --silent
stubs=$output/clients/typescript/src/v1

rm -rf "$stubs/ingot" "$stubs/google"
# The rules are for the server, and are half of what a page would load.
buf generate proto --template clients/typescript/buf.gen.yaml --output "$output" \
    --path proto/ingot --path proto/google/rpc \
    --exclude-type buf.validate.field --exclude-type buf.validate.oneof --exclude-type buf.validate.message
