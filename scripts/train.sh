#!/usr/bin/env bash
# Trains PPO on CartPole, from nothing: scripts/train.sh [arguments of `lit-rl fit`]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/lit-rl fit --config configs/ppo/cartpole.yaml "$@"
