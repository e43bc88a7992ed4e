#!/bin/sh
# Generates clients/go/ingot/v1 from proto/ below the folder in $1; the default is the checkout.
set -eu
cd "$(dirname "$0")"
output=$(realpath "${1:-../..}")/clients/go
rm -rf "$output/ingot/v1"
buf generate --output "$output"
