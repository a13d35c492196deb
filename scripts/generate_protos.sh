#!/usr/bin/env bash
# Generates the Python code beside protos/hotshoe/v1/*.proto; with --check, compares it with what is there.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
out=protos
if [[ ${1:-} == --check ]]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
PATH="$(dirname "$python"):$PATH" "$python" -m grpc_tools.protoc -I protos \
  --python_out="$out" --grpc_python_out="$out" --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" \
  protos/hotshoe/v1/*.proto
if [[ ${1:-} == --check ]]; then
  for made in "$out"/hotshoe/v1/*_pb2*; do
    if ! cmp -s "$made" "protos/hotshoe/v1/$(basename "$made")"; then
      echo "protos/hotshoe/v1/$(basename "$made") is not what the .proto files say: run 'make protos'" >&2
      exit 1
    fi
  done
  echo "generated code is up to date"
fi
