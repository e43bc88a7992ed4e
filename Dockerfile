# One image for every part: `docker run IMAGE up | serve | worker`. `up` and `serve` listen for other
# machines, so they need tokens and a certificate, or INGOT_INSECURE (docs/authentication.md).
FROM python:3.13-slim-trixie AS build
WORKDIR /src
COPY requirements requirements
RUN python -m venv /opt/ingot \
    && /opt/ingot/bin/pip install --no-cache-dir --require-hashes -r requirements/uv.txt \
    && VIRTUAL_ENV=/opt/ingot /opt/ingot/bin/uv pip install --no-cache --require-hashes -r requirements/server.txt
COPY clients/python clients/python
COPY server server
RUN VIRTUAL_ENV=/opt/ingot /opt/ingot/bin/uv pip install --no-cache --no-deps --no-build-isolation ./clients/python ./server

FROM python:3.13-slim-trixie
RUN useradd --system --uid 10001 --home-dir /var/lib/ingot --create-home ingot
COPY --from=build /opt/ingot /opt/ingot
ENV PATH=/opt/ingot/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    INGOT_GRPC_ADDRESS=0.0.0.0:50051 \
    INGOT_HTTP_ADDRESS=0.0.0.0:8080 \
    INGOT_DATA_DIR=/var/lib/ingot/data \
    INGOT_SCRATCH_DIR=/var/lib/ingot/scratch
USER 10001
WORKDIR /var/lib/ingot
VOLUME /var/lib/ingot
EXPOSE 50051 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["ingot-server"]
CMD ["up"]
