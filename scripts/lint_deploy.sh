#!/usr/bin/env bash
# Lints what deploys Hotshoe: the Dockerfile, the compose files, the Kubernetes manifests.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
"$bin/hadolint" Dockerfile
"$bin/docker-compose" -f deploy/compose.yaml config --quiet
"$bin/docker-compose" -f deploy/compose.yaml -f deploy/compose.gpu.yaml config --quiet

scripts/alert_rules.sh --check

# What is a whole resource without its overlay.
"$bin/kubernetes-validate" --strict --quiet deploy/kubernetes/base/{deployment,service,serviceaccount}.yaml \
  deploy/kubernetes/base/{poddisruptionbudget,networkpolicy}.yaml deploy/kubernetes/overlays/*/namespace.yaml \
  deploy/kubernetes/overlays/cpu/registry.yaml
if ! command -v kubectl >/dev/null; then
  echo "deploy: clean, but for the overlays: kubectl, which renders them, is not here"
  exit 0
fi
for overlay in deploy/kubernetes/overlays/*/; do
  kubectl kustomize "$overlay" | "$bin/kubernetes-validate" --strict --quiet -
done
echo "deploy: clean"
