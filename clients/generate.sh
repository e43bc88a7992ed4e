#!/bin/sh
# Generates the stubs from proto/ below the folder that is named, the checkout when none is.
set -eu
cd "$(dirname "$0")/.."
output=${1:-.}
rm -rf "$output/clients/python/ingot/v1" "$output/clients/python/buf"
buf generate --output "$output" 2>/dev/null || buf generate --output "$output"
# The typed stub of a module without a service says nothing.
find "$output/clients/python" -name '*_pb2_grpc.pyi' | while read -r stub; do
    [ -e "${stub%i}" ] || rm "$stub"
done
