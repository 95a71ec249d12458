"""Precision, compiled losses, and acting elsewhere: same learning, other machinery."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything

from lit_rl import DQN, MLP, PPO, SAC, Agent, Env, Replay, Rollouts, Trainer
from lit_rl.data.episodes import Episodes
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic

ROOT = Path(__file__).parent.parent
NAMES = ("ppo", "dqn", "sac")


def agent(name: str, compiled: bool = False, act_device: Any = "same") -> Agent:
    seed_everything(1, verbose=False)
    optimizer, evaluation = Optimizer(lr=1e-3, compile=compiled, max_grad_norm=0.5), Episodes(2, max_steps=50)
    replay = Replay(500, 8, replay_ratio=0.25, warmup=32, steps_per_epoch=64, act_device=act_device)
    body = MLP((16,), normalize=name == "ppo")
    if name == "ppo":
        data = Rollouts(steps=32, steps_per_epoch=128, act_device=act_device)
        return PPO(Env("Pendulum-v1", 2), data, ActorCritic(body), optimizer, minibatch_size=64, evaluation=evaluation)
    if name == "dqn":
        return DQN(Env("CartPole-v1", 2), replay, body, optimizer, evaluation=evaluation)
    return SAC(Env("Pendulum-v1", 2), replay, body, optimizer, evaluation=evaluation)


def fit(learner: Agent, precision: Any = "32-true") -> Agent:
    trainer = Trainer(
        "",
        max_epochs=1,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        log_every_n_steps=1,
    )
    trainer.fit(learner)
    return learner


@pytest.mark.medium
@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_learns_almost_the_same(name: str) -> None:
    start = {key: value.clone() for key, value in agent(name).named_parameters()}
    full, mixed = fit(agent(name)), fit(agent(name), "bf16-mixed")
    moved = torch.cat([(p - start[key]).flatten() for key, p in full.named_parameters()]).norm()
    apart = torch.cat([(p - q).flatten() for p, q in zip(full.parameters(), mixed.parameters(), strict=True)]).norm()
    assert 0 < apart < 0.5 * moved  # bfloat16 was at work, and the weights went the same way
    assert all(p.dtype == torch.float32 for p in mixed.parameters())
    assert mixed.updates == full.updates > 0


@pytest.mark.medium
def test_ratio_begins_at_one_under_mixed_precision() -> None:
    learner = agent("ppo")
    largest: list[float] = []
    diagnose = learner._diagnose  # type: ignore[attr-defined]

    def watched(log_ratio: torch.Tensor, entropy: torch.Tensor) -> None:
        assert log_ratio.dtype == torch.float32
        largest.append(float(log_ratio.abs().max()))
        diagnose(log_ratio, entropy)

    learner._diagnose = watched  # type: ignore[attr-defined, method-assign]
    fit(learner, "bf16-mixed")
    assert largest[0] == 0 and max(largest[1:4]) > 0  # one minibatch a pass, four passes


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_half_precision_weights_are_refused(precision: str) -> None:
    with pytest.raises(ValueError, match=f"precision is {precision}") as refusal:
        fit(agent("dqn"), precision)
    assert "\n" not in str(refusal.value)


@pytest.mark.medium
@pytest.mark.parametrize("name", NAMES)
def test_a_mirror_acts_as_the_policy_itself(name: str) -> None:
    direct, mirrored = fit(agent(name)), fit(agent(name, act_device="cpu"))
    assert direct.updates > 0
    for (key, value), other in zip(direct.state_dict().items(), mirrored.state_dict().values(), strict=True):
        assert torch.equal(value, other), key


COMPILED = """
import sys, torch
from tests.test_scale import agent, fit
torch._inductor.config.fallback_random = True  # draw as eagerly
eager, compiled = fit(agent(sys.argv[1])), fit(agent(sys.argv[1], compiled=True))
assert hasattr(compiled.loss, "get_compiler_config") and eager.updates == compiled.updates > 0
for (name, p), q in zip(eager.named_parameters(), compiled.parameters(), strict=True):
    torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4, msg=name)
speeds = {"steps_per_second", "updates_per_second"}
assert eager.metrics.latest.keys() == compiled.metrics.latest.keys()
for name in eager.metrics.latest.keys() - speeds:
    a, b = eager.metrics.latest[name], compiled.metrics.latest[name]
    assert abs(a - b) <= 1e-2 * abs(a) + 1e-3, (name, a, b)
"""


@pytest.mark.parametrize(
    "name",
    [pytest.param("dqn", marks=pytest.mark.medium), *(pytest.param(n, marks=pytest.mark.slow) for n in ("ppo", "sac"))],
)
def test_compiled_loss_learns_the_same(name: str) -> None:
    environment = os.environ | {"JAXTYPING_DISABLE": "1"}  # executed annotations are not for the compiler
    command = [sys.executable, "-W", "ignore", "-c", COMPILED, name]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
