#!/bin/sh
# Puts Ingot into .venv from locked, hashed packages. Needs Python 3.11 or newer, and nothing else:
# no root, no compiler. `install.sh dev` adds what testing takes.
set -eu
cd "$(dirname "$0")"

profile=${1:-server}
python=${PYTHON:-python3}

stop() {
    echo "ingot: $1" >&2
    exit 1
}

install_uv() {
    command -v "$python" >/dev/null || stop "$python was not found; install Python 3.11 or newer."
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        stop "$("$python" --version) is too old; set PYTHON to Python 3.11 or newer."
    "$python" -m venv --without-pip .venv || stop "$python has no module venv; install python3-venv."
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        .venv/bin/python -m ensurepip --upgrade >/dev/null
        .venv/bin/python -m pip install --quiet --require-hashes -r requirements/uv.txt
        return
    fi
    # Debian ships Python without ensurepip; its pip is a wheel that can be had without root.
    wheels=$(mktemp -d)
    trap 'rm -rf "$wheels"' EXIT
    (cd "$wheels" && apt-get download -q python3-pip-whl >/dev/null && dpkg-deb -x python3-pip-whl*.deb .) ||
        stop "Python has no pip here; install the package python3-venv."
    PYTHONPATH=$(echo "$wheels"/usr/share/python-wheels/pip-*.whl) \
        .venv/bin/python -m pip install --quiet --require-hashes -r requirements/uv.txt
}

# The platform's certificate store, so that a company's own authority is trusted as by every other program.
export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"

stamp=.venv/installed-$profile
wanted=$(cat requirements/*.txt clients/python/pyproject.toml server/pyproject.toml | sha256sum)
[ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

[ -x .venv/bin/uv ] || install_uv
uv="env VIRTUAL_ENV=$PWD/.venv .venv/bin/uv --quiet pip"
# Compiled now, on all processors, instead of by each process that imports a package first.
$uv install --compile-bytecode --require-hashes -r requirements/server.txt
[ "$profile" = server ] || $uv install --compile-bytecode --require-hashes -r "requirements/$profile.txt"
$uv install --no-deps --no-build-isolation --editable clients/python --editable server
echo "$wanted" >"$stamp"
