#!/bin/sh
# What the first `docker compose up` makes, once: the operator's token and the keys of S3. All of it is in the volume
# `secrets`, which only Ingot's user can read. Caddy makes the certificate by itself.
set -eu
umask 077
cd "${1:-/run/ingot}"

if [ ! -e tokens.toml ]; then
    ingot-server token operator --scope read --scope ingest --scope convert --scope write --scope delete --scope admin \
        >tokens.new 2>operator-token
    mv tokens.new tokens.toml
fi
if [ ! -e s3-identities.json ]; then
    key=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
    printf %s "$key" >s3-secret-key
    printf '{"identities": [{"name": "ingot", "actions": ["Admin"], "credentials": [{"accessKey": "ingot", "secretKey": "%s"}]}]}' \
        "$key" >s3-identities.new
    mv s3-identities.new s3-identities.json
fi

cat <<END
The token of the operator:            docker compose exec server cat /run/ingot/operator-token
The authority of the certificate:     docker compose cp caddy:/data/caddy/pki/authorities/local/root.crt ca.pem
The page, which asks for the token:   https://${DOMAIN:-localhost}
The command:                          ingot --server https://${DOMAIN:-localhost} --ca ca.pem --token TOKEN list
END
