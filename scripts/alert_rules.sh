#!/usr/bin/env bash
# Wraps deploy/prometheus/alerts.yml for the Prometheus Operator; with --check, compares it with what is there.
set -euo pipefail
cd "$(dirname "$0")/.."
alerts=deploy/prometheus/alerts.yml
rule=deploy/kubernetes/components/monitoring/prometheusrule.yaml

wrapped() {
  cat <<HEAD
# Made from $alerts by scripts/alert_rules.sh.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: hotshoe
spec:
HEAD
  sed -n '/^groups:/,$ s/^\(.\)/  \1/p' "$alerts"
}

if [[ ${1:-} != --check ]]; then
  wrapped >"$rule"
elif ! wrapped | cmp -s - "$rule"; then
  echo "$rule is not what $alerts says: run scripts/alert_rules.sh" >&2
  exit 1
fi
