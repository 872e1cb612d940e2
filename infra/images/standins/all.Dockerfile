# Stand-ins for the rest: Debian's PostgreSQL, MLflow of its wheels, and SeaweedFS and the OpenTelemetry Collector of their
# Go modules, in one image, under the users and paths of the real ones, which take the same settings.
ARG BASE=debian:bookworm-slim
FROM ${BASE} AS base
RUN { command -v pg_isready && command -v python3.11 && command -v wget; } >/dev/null || \
    (apt-get update && apt-get install -y --no-install-recommends postgresql-15 python3.11 libpython3.11 wget \
    && rm -rf /var/lib/apt/lists/*)

FROM base AS packages
COPY wheels/tools /wheels/tools
COPY wheels/mlflow /wheels/mlflow
RUN python3.11 "$(echo /wheels/tools/pip-*.whl)/pip" install -q --no-index --no-deps --no-compile --target /opt/mlflow /wheels/mlflow/*.whl

FROM base
LABEL org.opencontainers.image.title="thalweg-standins-all" \
      org.opencontainers.image.description="PostgreSQL, MLflow, SeaweedFS and the Collector, where their own images can't be had"
ENV PATH=/opt/mlflow/bin:/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/opt/mlflow
RUN groupmod --gid 999 --non-unique postgres && usermod --uid 999 --non-unique postgres \
    && rm -rf /var/lib/postgresql && install -d -o 999 -g 999 -m 0700 /var/lib/postgresql/data \
    && install -d -o 1000 -g 1000 /data && ln -sf python3.11 /usr/bin/python3
COPY --from=packages /opt/mlflow /opt/mlflow
COPY programs infra/images/standins/postgres-standin /usr/local/bin/
USER nobody
