#!/usr/bin/env bash
# Trains PPO on CartPole, from nothing: scripts/train.sh [arguments of `lit-rl fit`]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # small networks gain nothing from more, and lose where others compute too
exec .venv/bin/lit-rl fit --config configs/ppo/cartpole.yaml "$@"
