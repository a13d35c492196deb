# syntax=docker/dockerfile:1
# Two images of one server:
#   docker build --target cpu --build-arg PIP_EXTRA_INDEX_URL=<PyTorch's CPU wheel index> -t hotshoe:cpu .
#   docker build --target gpu -t hotshoe:gpu .
# The locks name no package index: PIP_EXTRA_INDEX_URL passes one in, and is not kept in the image.

FROM python:3.11-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/hotshoe
ENV PATH=/opt/hotshoe/bin:$PATH
WORKDIR /src

FROM build AS build-cpu
COPY requirements/cpu.lock requirements/
RUN pip install --no-deps -r requirements/cpu.lock
COPY . .
RUN pip install --no-deps --no-build-isolation .

FROM build AS build-gpu
COPY requirements/gpu.lock requirements/
RUN pip install --no-deps -r requirements/gpu.lock
COPY . .
# The build's own tools, at the versions that the other lock pins; the runtime lock has none.
RUN pip install --no-deps -c requirements/cpu.lock hatchling pathspec pluggy trove-classifiers packaging \
 && pip install --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm AS runtime
# libnuma1: vLLM's CPU build links it.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libnuma1 tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 10001 hotshoe \
 && install -d -o hotshoe -g hotshoe /registry
ENV PATH=/opt/hotshoe/bin:$PATH HOTSHOE_REGISTRY=/registry PYTHONUNBUFFERED=1
USER hotshoe
WORKDIR /home/hotshoe
VOLUME /registry
EXPOSE 50051
# Ready means that a token was generated; loading a large base takes minutes.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
  CMD ["python", "-m", "hotshoe.client.health", "127.0.0.1:50051"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "hotshoe"]
# Inside a container 127.0.0.1 reaches nobody: say --allow-open, and keep the network to those who may call.
CMD ["serve", "--help"]

FROM runtime AS cpu
COPY --from=build-cpu /opt/hotshoe /opt/hotshoe

FROM runtime AS gpu
# Triton compiles its launchers when it first runs a kernel.
USER root
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
USER hotshoe
COPY --from=build-gpu /opt/hotshoe /opt/hotshoe
