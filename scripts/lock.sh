#!/usr/bin/env bash
# Resolves requirements/*.lock from pyproject.toml, with uv: cpu.lock and gpu.lock are what the images hold,
# dev.lock is what development needs on top of cpu.lock.
# uv does not read pip's configuration, so pip's indexes are handed over; the locks name none of them.
set -euo pipefail
cd "$(dirname "$0")/.."
export UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_INDEX_STRATEGY=unsafe-best-match
UV_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL:-$(.venv/bin/pip config get global.extra-index-url 2>/dev/null || true)}
UV_FIND_LINKS=${PIP_FIND_LINKS:-$(.venv/bin/pip config get global.find-links 2>/dev/null || true)}

compile() {
  local output=$1
  shift
  .venv/bin/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    --no-header --no-annotate --no-emit-index-url pyproject.toml --extra quantize "$@" --output-file "$output"
}

tell() {
  echo "requirements/$1.lock: $(wc -l <"requirements/$1.lock") packages"
}

cpu=(requirements/cpu.in --extra serve-cpu --overrides requirements/cpu-overrides.txt)
compile requirements/cpu.lock "${cpu[@]}"
tell cpu

# uv keeps the pins that it finds in the output, so the ones of before go in, and out come all of them.
both=$(mktemp)
trap 'rm -f "$both"' EXIT
cat requirements/cpu.lock requirements/dev.lock >"$both"
compile "$both" "${cpu[@]}" --extra dev --constraints requirements/cpu.lock
grep -vxFf requirements/cpu.lock "$both" >requirements/dev.lock
tell dev

# Without the folder of wheels: a CPU build of torch there would win over the CUDA build of the same version.
UV_FIND_LINKS='' compile requirements/gpu.lock requirements/gpu.in --extra serve-gpu
tell gpu
