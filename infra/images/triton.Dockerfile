# Triton from its wheel, with the packages that our models need in its Python backend (numpy < 2), as in Dockerfile.
# Its user is the services', whose keys nobody else may get at; it has their volume to read, not to write.
ARG BASE=debian:bookworm-slim
ARG BUILDER=${BASE}

FROM ${BUILDER} AS builder
RUN { command -v python3.11 && command -v strip; } >/dev/null || \
    (apt-get update && apt-get install -y --no-install-recommends python3.11 binutils && rm -rf /var/lib/apt/lists/*)
COPY wheels/tools /wheels/tools
COPY infra/images/prune.py /build/

FROM ${BASE} AS python
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN command -v python3.11 >/dev/null || \
    (apt-get update && apt-get install -y --no-install-recommends python3.11 libpython3.11 ca-certificates && rm -rf /var/lib/apt/lists/*)
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin thalweg \
    && ln -sf python3.11 /usr/bin/python3

FROM builder AS packages
COPY wheels/triton /wheels/triton
RUN python3.11 "$(echo /wheels/tools/pip-*.whl)/pip" install -q --no-index --no-deps --no-compile --target /opt/python /wheels/triton/*.whl \
    && python3.11 /build/prune.py /opt/python \
    && python3.11 -m compileall -q /opt/python
COPY infra/images/sbom.py /build/
RUN python3.11 /build/sbom.py thalweg-triton /opt/python >/opt/sbom.json
# the Python backend as the server expects it: the library, its helper and the stub of this Python, in one folder
RUN server=/opt/python/pytriton/tritonserver && mkdir -p /opt/backends/python \
    && ln -s $server/backends/python/* $server/python_backend_stubs/3.11/triton_python_backend_stub /opt/backends/python/

FROM python AS triton
ENV LD_LIBRARY_PATH=/opt/python/nvidia_pytriton.libs \
    HEALTH_URL=http://127.0.0.1:8000/v2/health/ready
WORKDIR /thalweg
COPY --from=packages /opt/python /opt/python
COPY --from=packages /opt/backends /opt/backends
# the backend's stub takes no notice of PYTHONPATH, and of this it does
RUN mkdir -p /usr/lib/python3/dist-packages && printf '/thalweg\n/opt/python\n' >/usr/lib/python3/dist-packages/thalweg.pth
COPY --from=packages /opt/sbom.json /usr/share/thalweg/sbom.json
COPY LICENSE /usr/share/thalweg/
COPY infra/images/healthy.py /usr/lib/thalweg/
COPY services/__init__.py services/
COPY services/runtime services/runtime
COPY services/inference services/inference
VOLUME /data
USER thalweg
HEALTHCHECK --interval=5s --timeout=5s --start-period=120s --retries=6 CMD ["python3.11", "-I", "-S", "/usr/lib/thalweg/healthy.py"]
ENTRYPOINT ["/opt/python/pytriton/tritonserver/bin/tritonserver", "--backend-directory=/opt/backends"]
ARG VERSION=0 REVISION= CREATED=
LABEL org.opencontainers.image.title="thalweg-triton" \
      org.opencontainers.image.description="Triton, with what the models of Thalweg need in its Python backend" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.licenses="Apache-2.0"
