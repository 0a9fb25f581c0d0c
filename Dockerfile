# Two images: `docker build --target web .` (no torch, no numpy) and `--target worker`.

ARG PYTHON_VERSION=3.11-slim

FROM python:${PYTHON_VERSION} AS base
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LATENTGAUGE_ARTIFACTS=/data/artifacts
# The folder belongs to the user here, so that a new volume mounted over it does too.
RUN groupadd --gid 10001 latentgauge \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp \
        --shell /usr/sbin/nologin latentgauge \
    && install --directory --owner=10001 --group=10001 /data /data/artifacts \
    && python -m venv /opt/venv
WORKDIR /app


FROM base AS web
COPY requirements-web.lock ./
RUN --mount=type=cache,target=/root/.cache/pip HOME=/root \
    pip install --require-hashes --requirement requirements-web.lock
COPY latentgauge latentgauge
COPY jobs jobs
COPY app app
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=3)"]
CMD ["uvicorn", "app.main:app", "--host", "0.0.0.0", "--port", "8000", "--timeout-graceful-shutdown", "5"]


FROM base AS worker
# The Makefile names the same version; TORCH_INDEX is the index of a CPU or CUDA build, or empty.
ARG TORCH_VERSION=2.13.0
ARG TORCH_INDEX=
# hadolint ignore=DL3013
RUN --mount=type=cache,target=/root/.cache/pip HOME=/root \
    pip install "torch==${TORCH_VERSION}" ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"}
COPY requirements-worker.lock ./
RUN --mount=type=cache,target=/root/.cache/pip HOME=/root \
    pip install --require-hashes --requirement requirements-worker.lock
COPY latentgauge latentgauge
COPY jobs jobs
COPY worker worker
USER 10001:10001
# Healthy: the database heard from a worker of this device within the last minute.
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from jobs.ledger import Ledger; from jobs.settings import settings; from jobs.tables import connect; s = settings(); raise SystemExit(s.worker_device not in Ledger(connect(s.database_url)).devices())"]
CMD ["celery", "-A", "worker.main", "worker", "--pool=solo", "--without-gossip", "--without-mingle", "--loglevel=info", "-Q", "cpu"]
