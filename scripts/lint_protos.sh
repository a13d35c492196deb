#!/usr/bin/env bash
# Lints protos/ and compares the API with the last release's, or with the last commit's before there is one:
# fields are only ever added.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/buf lint protos
release=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || echo HEAD)
.venv/bin/buf breaking protos --against ".git#ref=$release,subdir=protos"
echo "protos: lint is clean, and nothing of $release is broken"
