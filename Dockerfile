# Remora in a container: not root, on a read-only root, with its database under /data.
#   docker run -p 127.0.0.1:8080:8080 -v remora:/data -e REMORA_UPSTREAM=https://api.openai.com --read-only remora

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/remora
WORKDIR /src
# the packages first: they change less often than the code
COPY requirements.lock ./
RUN /opt/remora/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy ./proxy
RUN /opt/remora/bin/pip install --no-deps --no-build-isolation . \
    && /opt/remora/bin/python -m compileall -q /opt/remora/lib \
    && /opt/remora/bin/pip uninstall --yes --quiet setuptools pip

FROM python:3.13-slim
RUN mkdir /data && chown 10001:10001 /data
COPY --from=build /opt/remora /opt/remora
COPY policies /app/policies
WORKDIR /app
ENV PATH=/opt/remora/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    REMORA_LISTEN=0.0.0.0:8080 \
    REMORA_ADMIN=0.0.0.0:9901 \
    REMORA_STORE=sqlite:////data/remora.db \
    REMORA_POLICIES=/app/policies
USER 10001:10001
VOLUME /data
EXPOSE 8080 9901
# http.client and not urllib: HTTP_PROXY, which many machines put into every container, must not catch it
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['REMORA_ADMIN'].rpartition(':')[2]), timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
# exec form, so that SIGTERM reaches the proxy and it can end what is running
ENTRYPOINT ["remora"]
CMD ["serve"]
