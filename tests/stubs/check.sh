#!/usr/bin/env bash
# Generates stubs for Go, TypeScript and Java from a copy of proto/, without edits and without any
# other file of the contract; compiles them; decodes an error with them.
# Needs Go, Node, a JDK with Maven, and what `make install-dev` installs.
set -euo pipefail
cd "$(dirname "$0")/../.."
clean=$(mktemp -d)
trap 'chmod -R u+w "$clean"; rm -rf "$clean"' EXIT

copy_to() {
    mkdir -p "$clean/$1"
    cp -r proto "$clean/$1"
    rm "$clean/$1/proto/released.binpb"
    [ ! -d "tests/stubs/$1" ] || cp -r "tests/stubs/$1/." "$clean/$1"
}

# What a call that Ingot refuses ends with.
python -c '
import sys
from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
failure = Failure(reason_pb2.REASON_UNSUPPORTED_URL, "No source accepts this.", violations={"url": "a"})
sys.stdout.buffer.write(failure.status().SerializeToString())' >"$clean/status"
expected="ingot.v1 UNSUPPORTED_URL"

check() {
    if [ "$2" != "$expected" ]; then
        echo "$1: the stubs read $2, not $expected" >&2
        exit 1
    fi
    echo "$1: generated, compiled, and read $2"
}

copy_to go
(cd "$clean/go" && buf generate && go vet ./... && go build -o stubs .)
check Go "$("$clean/go/stubs" <"$clean/status")"

copy_to typescript
(
    cd "$clean/typescript"
    npm ci --silent --ignore-scripts --no-audit --no-fund
    PATH="$PWD/node_modules/.bin:$PATH" buf generate
    npx --no-install tsc
)
check TypeScript "$(node "$clean/typescript/out/main.js" <"$clean/status")"

copy_to java
(
    cd "$clean/java"
    mvn -q -B -Dstyle.color=never org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory=lib
    chmod +x lib/*.exe
    buf generate
    find src -name '*.java' >sources
    javac -nowarn -proc:none -d out -cp 'lib/*' Main.java @sources
)
check Java "$(java -cp "$clean/java/out:$clean/java/lib/*" Main <"$clean/status")"
