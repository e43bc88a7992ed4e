#!/bin/sh
# Generates the stubs from proto/ below the folder in $1; the default is the checkout.
set -eu
cd "$(dirname "$0")/.."
output=${1:-.}
rm -rf "$output/clients/python/ingot/v1" "$output/clients/python/buf"
buf generate --output "$output" 2>/dev/null || buf generate --output "$output"
# mypy-protobuf also writes an empty gRPC stub for a module without a service.
find "$output/clients/python" -name '*_pb2_grpc.pyi' | while read -r stub; do
    [ -e "${stub%i}" ] || rm "$stub"
done
