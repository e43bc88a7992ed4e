#!/bin/sh
# Generates what is generated from proto/ below the folder in $1; the default is the checkout.
set -eu
cd "$(dirname "$0")/.."
output=${1:-.}
image=$(mktemp)
trap 'rm -f "$image"' EXIT

rm -rf "$output/clients/python/ingot/v1"
buf build --output -#format=binpb | python clients/without-rules-import >"$image"
set -- "$image#format=binpb" --path ingot --output "$output"
buf generate "$@" 2>/dev/null || buf generate "$@"
# mypy-protobuf also writes an empty gRPC stub for a module without a service.
find "$output/clients/python" -name '*_pb2_grpc.pyi' | while read -r stub; do
    [ -e "${stub%i}" ] || rm "$stub"
done

# The rules themselves and what they import, for the server's reflection.
rules=server/ingot_server/api/validate.binpb
mkdir -p "$output/$(dirname "$rules")"
buf build --path proto/buf/validate --exclude-source-info --output "$output/$rules"

# The server's own messages, which are not part of the contract.
rm -f "$output"/server/ingot_server/library/manifest_pb2.py*
python -m grpc_tools.protoc --proto_path=server --proto_path=proto \
    --python_out="$output/server" --mypy_out="quiet:$output/server" ingot_server/library/manifest.proto

# The reference, the table of settings, and the OpenAPI document, from the comments and rules of the contract and from code.
python docs/generate_reference.py "$output/docs/reference"
python docs/generate_settings.py "$output/docs/settings.md"
python docs/generate_openapi.py "$output/server/ingot_server/api/openapi.json"
