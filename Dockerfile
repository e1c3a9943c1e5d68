# The service on processors, with the packaged model: no rights, no network of its own, nothing written but /tmp.
#
#   docker build -t idm-deploy .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL -p 8080:8080 -v "$PWD/tokens:/run/secrets/tokens:ro" idm-deploy
#   docker run --rm --network none --read-only --tmpfs /tmp -v "$PWD:/work" -w /work -u "$(id -u)" \
#     --entrypoint idm-deploy idm-deploy infer photo.png --scale 4
#
# The base is named by its tag: pin its digest where you build.
FROM python:3.11-slim-trixie AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY requirements requirements
RUN python -m venv /opt/idm-deploy && \
    /opt/idm-deploy/bin/pip install --require-hashes --requirement requirements/image.txt && \
    python -m venv /build && \
    /build/bin/pip install --require-hashes --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY engines engines
COPY calibration calibration
COPY deploy deploy
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . && \
    /opt/idm-deploy/bin/pip install --no-deps --no-index /wheels/*.whl && \
    /opt/idm-deploy/bin/pip uninstall --yes pip setuptools

FROM python:3.11-slim-trixie
COPY --from=build /opt/idm-deploy /opt/idm-deploy
# The cache and unfinished pictures lie in /tmp; bytecode was written when the packages were installed.
ENV PATH=/opt/idm-deploy/bin:$PATH PYTHONDONTWRITEBYTECODE=1 XDG_CACHE_HOME=/tmp/cache HF_HUB_OFFLINE=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
# Tokens, one a line: a service that others can reach does not start without (--no-auth says that it shall).
ENTRYPOINT ["idm-deploy"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080", "--token-file", "/run/secrets/tokens"]
