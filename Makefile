.PHONY: help setup demo test bench soak check format protos lock image clean

help: ## Show these targets
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: ## Make .venv from the pinned lock; does nothing if it is current
	@scripts/setup.sh

demo: setup ## Train two tenants, publish, serve, call, hot-swap, roll back: the main job on a real model
	@.venv/bin/python examples/demo.py

test: setup ## Run the tests
	@.venv/bin/python -m pytest

bench: setup ## Take the figures of docs/benchmarks.md again; 16 minutes or more on two quiet cores
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip -q
	@.venv/bin/python -m pip install -q --no-deps -r benchmarks/requirements.txt
	@.venv/bin/python -m benchmarks

soak: setup ## Serve under load while all is done to the server that may be; SOAK_MINUTES=10, SOAK_SEED=
	@PYTHONPATH=tests .venv/bin/python -m soak --minutes $${SOAK_MINUTES:-10} $${SOAK_SEED:+--seed $$SOAK_SEED}

check: setup ## Format, lint, types, import rules, protos, scripts, deploy/
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports
	scripts/lint_protos.sh
	scripts/generate_protos.sh --check
	.venv/bin/shellcheck scripts/*.sh .ci/run
	scripts/lint_deploy.sh

format: setup ## Format the code and mend what the linter can
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

protos: setup ## Generate the code beside protos/hotshoe/v1/*.proto
	scripts/generate_protos.sh

lock: setup ## Resolve requirements/*.lock anew from pyproject.toml
	scripts/lock.sh

image: ## Build the container images; the CPU one takes PIP_EXTRA_INDEX_URL from the environment
	docker build --target cpu --build-arg PIP_EXTRA_INDEX_URL -t hotshoe:cpu .
	docker build --target gpu -t hotshoe:gpu .

clean: ## Remove .venv and what tools left
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
