# syntax=docker/dockerfile:1
# One image for every role: `docker run IMAGE up | serve | worker | gc`. `up` and `serve` listen for other machines, so
# they need tokens and a certificate, or INGOT_INSECURE. docs/containers.md says how to run it.
#
# BASE_IMAGE may be any Debian or Ubuntu with ca-certificates and Python 3.11 or newer as `python3`, with its module venv.
# Name it by its digest to build the same image again: --build-arg BASE_IMAGE=python:3.13-slim-trixie@sha256:...
ARG BASE_IMAGE=python:3.13-slim-trixie

# What both stages have, so that the environment that the first one makes runs in the last one.
# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS base
ENV PYTHONUNBUFFERED=1 PATH=/opt/ingot/bin:$PATH

FROM base AS build
WORKDIR /src
COPY requirements requirements
RUN python3 -m venv /opt/ingot \
    && /opt/ingot/bin/pip install --no-cache-dir --require-hashes -r requirements/uv.txt \
    && VIRTUAL_ENV=/opt/ingot uv pip install --no-cache --compile-bytecode --require-hashes -r requirements/server.txt
COPY clients/python clients/python
COPY server server
RUN VIRTUAL_ENV=/opt/ingot uv pip install --no-cache --compile-bytecode --no-deps --no-build-isolation \
        ./clients/python ./server \
    && /opt/ingot/bin/pip uninstall --yes pip

FROM base
RUN groupadd --gid 10001 ingot \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/ingot --create-home --shell /usr/sbin/nologin ingot \
    && install --directory --owner=ingot --group=ingot --mode=0700 /run/ingot
COPY --from=build /opt/ingot /opt/ingot

# All that is written is below /var/lib/ingot and /tmp, so the root file system may be read-only. /run/ingot is for secrets.
ENV HOME=/var/lib/ingot \
    PYTHONDONTWRITEBYTECODE=1 \
    INGOT_GRPC_ADDRESS=0.0.0.0:50051 \
    INGOT_HTTP_ADDRESS=0.0.0.0:8080 \
    INGOT_DATA_DIR=/var/lib/ingot/data \
    INGOT_SCRATCH_DIR=/var/lib/ingot/scratch \
    INGOT_HEARTBEAT_FILE=/tmp/ingot-heartbeat
USER 10001:10001
WORKDIR /var/lib/ingot
VOLUME /var/lib/ingot
# 9000 is for the S3 server of `up`, with INGOT_S3_ADDRESS=0.0.0.0:9000.
EXPOSE 50051 8080 9000
STOPSIGNAL SIGTERM
# It finds out by itself which role runs.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s CMD ["ingot-server", "health"]
ENTRYPOINT ["ingot-server"]
CMD ["up"]

ARG BASE_IMAGE
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Ingot" \
      org.opencontainers.image.description="Media ingest service: API server, workers and embedded storage" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.url="https://github.com/ingot-media/ingot" \
      org.opencontainers.image.source="https://github.com/ingot-media/ingot" \
      org.opencontainers.image.documentation="https://github.com/ingot-media/ingot/blob/main/docs/containers.md" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
