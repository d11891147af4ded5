# One image for every role; see deploy/entrypoint. Build: docker build -t mech-queue .
FROM python:3.11-slim-bookworm AS build

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements.lock ./
RUN python -m venv /venv \
    && /venv/bin/pip install -r requirements.lock \
    && chmod -R a+rX /venv

FROM python:3.11-slim-bookworm

ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    FLOWER_ADDRESS=127.0.0.1 \
    DATA_DIR=/data

# A fixed number, so that a volume's owner is known; the code itself belongs to root and is read-only.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin mechqueue \
    && install -d -o mechqueue -g mechqueue -m 0700 /data

COPY --from=build /venv /venv
WORKDIR /app
COPY api api
COPY config config
COPY mech_queue mech_queue
COPY tasks tasks
COPY workers workers
COPY deploy deploy

USER 10001:10001
VOLUME /data
EXPOSE 3003 3004 5555
# Longer than DRAIN_SECONDS: docker stop -t 60.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "deploy/healthcheck.py"]
ENTRYPOINT ["deploy/entrypoint"]
CMD ["all"]
