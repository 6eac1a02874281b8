ARG PYTHON_VERSION=3.13

# The whole image, not the slim one: it has a C compiler.
FROM python:${PYTHON_VERSION} AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/howdah && \
    /opt/howdah/bin/python -m pip install --quiet --require-hashes --requirement requirements.lock
COPY pyproject.toml setup.py README.md LICENSE ./
COPY protocol ./protocol
COPY config ./config
COPY proxy ./proxy
RUN HOWDAH_COMPILE=require /opt/howdah/bin/python -m pip install --quiet --no-deps . && \
    /opt/howdah/bin/python -m pip uninstall --quiet --yes pip

FROM python:${PYTHON_VERSION}-slim
LABEL org.opencontainers.image.title="howdah" \
      org.opencontainers.image.description="A PostgreSQL connection pooler that takes PgBouncer's place" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/howdah /opt/howdah
# Probes and Prometheus come from outside the container, so metrics listen on every address here.
ENV PATH=/opt/howdah/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOWDAH__METRICS_ADDR=0.0.0.0
# Any other UID works as well: nothing below / is written, except the unix socket in /tmp.
USER 10001:10001
EXPOSE 6432 9127
STOPSIGNAL SIGINT
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/opt/howdah/bin/python", "-I", "-S", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('HOWDAH__METRICS_PORT', '9127')), timeout=3); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["/opt/howdah/bin/howdah"]
CMD ["/etc/howdah/howdah.toml"]
