#!/usr/bin/env bash
# What to run before a commit: formats, lints, checks types, runs the quick tests (no learning, no processes).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh test,box2d,mujoco,minatar,video,export,report,cma
export OMP_NUM_THREADS=1 MPLBACKEND=Agg SDL_VIDEODRIVER=dummy

.venv/bin/python -m ruff format .
.venv/bin/python -m ruff check --fix .
.venv/bin/python -m mypy
.venv/bin/python -m pytest -m "not slow and not medium" "$@"
