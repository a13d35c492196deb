#!/usr/bin/env bash
# Resolves requirements/cpu.lock and requirements/gpu.lock from pyproject.toml, with uv.
# uv does not read pip's configuration, so pip's indexes are handed over; the locks name none of them.
set -euo pipefail
cd "$(dirname "$0")/.."
export UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_INDEX_STRATEGY=unsafe-best-match
UV_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL:-$(.venv/bin/pip config get global.extra-index-url 2>/dev/null || true)}
UV_FIND_LINKS=${PIP_FIND_LINKS:-$(.venv/bin/pip config get global.find-links 2>/dev/null || true)}

compile() {
  local name=$1
  shift
  .venv/bin/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    --no-header --no-annotate --no-emit-index-url \
    pyproject.toml "requirements/$name.in" --extra train "$@" --output-file "requirements/$name.lock"
  echo "requirements/$name.lock: $(wc -l <"requirements/$name.lock") packages"
}

compile cpu --extra serve-cpu --extra dev --overrides requirements/cpu-overrides.txt
# Without the folder of wheels: a CPU build of torch there would win over the CUDA build of the same version.
UV_FIND_LINKS= compile gpu --extra serve-gpu
