# syntax=docker/dockerfile:1
# Two images of one server:
#   docker build --target cpu --build-arg PIP_EXTRA_INDEX_URL=<PyTorch's CPU wheel index> -t hotshoe:cpu .
#   docker build --target gpu -t hotshoe:gpu .
# The locks name no package index: PIP_EXTRA_INDEX_URL passes one in, and is not kept in the image.

FROM python:3.11-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# The tools that build the wheel stay behind here.
FROM build AS wheel
COPY requirements/dev.lock requirements/cpu.lock requirements/
RUN pip install --no-deps -c requirements/cpu.lock -c requirements/dev.lock \
    hatchling packaging pathspec pluggy trove-classifiers
COPY . .
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist .

# The pinned packages first: they change seldom and take long.
FROM build AS build-cpu
RUN python -m venv /opt/hotshoe
COPY requirements/cpu.lock requirements/
RUN /opt/hotshoe/bin/pip install --no-deps -r requirements/cpu.lock
COPY --from=wheel /dist /dist
RUN /opt/hotshoe/bin/pip install --no-deps /dist/*.whl

FROM build AS build-gpu
RUN python -m venv /opt/hotshoe
COPY requirements/gpu.lock requirements/
RUN /opt/hotshoe/bin/pip install --no-deps -r requirements/gpu.lock
COPY --from=wheel /dist /dist
RUN /opt/hotshoe/bin/pip install --no-deps /dist/*.whl

FROM python:3.11-slim-bookworm AS runtime
# libnuma1: vLLM's CPU build links it. The base image's tag names the release that the versions are of.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends libnuma1 tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --no-create-home --home-dir /cache --uid 10001 hotshoe \
 && install -d -o hotshoe -g hotshoe /registry /cache /ledger
# What is fetched or compiled at run time goes under the home folder: everything else may be read-only.
ENV PATH=/opt/hotshoe/bin:$PATH PYTHONUNBUFFERED=1 HOME=/cache HOTSHOE_REGISTRY=/registry
# By number: only so can Kubernetes tell that it is not root.
USER 10001:10001
WORKDIR /cache
VOLUME ["/registry", "/cache", "/ledger"]
EXPOSE 50051 9464
# Ready means that a token was generated; loading a large base takes minutes.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
  CMD ["python", "-m", "hotshoe.client.health", "127.0.0.1:50051"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "hotshoe"]
# Inside a container 127.0.0.1 reaches nobody: say --tenants, or --allow-open and keep the network to those
# who may call.
CMD ["serve", "--help"]

FROM runtime AS cpu
COPY --from=build-cpu /opt/hotshoe /opt/hotshoe

FROM runtime AS gpu
# Triton compiles its launchers when it first runs a kernel.
USER 0
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
USER 10001:10001
COPY --from=build-gpu /opt/hotshoe /opt/hotshoe
