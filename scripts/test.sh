#!/usr/bin/env bash
# Lint, types and tests, from nothing: scripts/test.sh [arguments of pytest]; two processes, `-n 0` for one
# All parts run even when one fails; pytest comes last, and any failure is the exit status.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh test,box2d,mujoco,minatar,video,export,report,cma
.venv/bin/python -m compileall -q lit_rl tests scripts  # once, not in each of the processes that tests start
export OMP_NUM_THREADS=1 MPLBACKEND=Agg SDL_VIDEODRIVER=dummy

failed=0
.venv/bin/python -m ruff check --quiet . || failed=1
.venv/bin/python -m ruff format --check --quiet . || failed=1
.venv/bin/python -m mypy || failed=1
.venv/bin/python -m pytest -n 2 --dist worksteal "$@" || failed=$?
exit "$failed"
