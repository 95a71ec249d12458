"""Exported policies act as the policies do, for every kind of action and observation, at any batch size."""

from pathlib import Path

import jaxtyping
import numpy as np
import onnxruntime
import pytest
import torch
from gymnasium import spaces

from lit_rl.export import ExportError, export
from lit_rl.nn.body import MLP, Recurrent
from lit_rl.nn.mlp import linear_head
from lit_rl.policies.actor_critic import ActorCritic
from lit_rl.policies.gaussian import SquashedGaussianPolicy
from lit_rl.policies.policy import Policy

VECTOR = spaces.Box(-1.0, 1.0, (3,), np.float32)
MIXED = spaces.Dict({"position": VECTOR, "room": spaces.Discrete(4)})


@pytest.fixture(autouse=True)
def _no_shape_checks(monkeypatch: pytest.MonkeyPatch):
    """Comparing a traced size with a number fixes it, and the batch is to stay open."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def policy_of(observation: spaces.Space, action: spaces.Space) -> Policy:
    torch.manual_seed(0)
    return ActorCritic(MLP((8,))).build(observation, action).policy


@pytest.mark.parametrize(
    ("observation", "action"),
    [
        (MIXED, spaces.Discrete(3)),
        (VECTOR, spaces.MultiDiscrete([2, 3])),
        (VECTOR, spaces.MultiBinary(2)),
        (VECTOR, spaces.Box(-2.0, 2.0, (2,), np.float32)),
    ],
    ids=lambda space: type(space).__name__,
)
def test_onnx_agrees_at_a_batch_size_of_its_own(observation: spaces.Space, action: spaces.Space, tmp_path: Path):
    policy = policy_of(observation, action)
    torch_file, onnx_file = export(policy, observation, tmp_path)
    assert torch_file.is_file()
    if isinstance(observation, spaces.Dict):
        obs = {"position": torch.randn(7, 3), "room": torch.randint(4, (7,))}
    else:
        obs = torch.randn(7, 3)
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    arrays = obs if isinstance(obs, dict) else {"obs": obs}
    found = session.run(None, {given.name: arrays[given.name].numpy() for given in session.get_inputs()})[0]
    np.testing.assert_allclose(found, policy(obs).detach().numpy(), atol=1e-5)


def test_bounded_actions_of_sac(tmp_path: Path):
    torch.manual_seed(0)
    box = spaces.Box(-2.0, 2.0, (2,), np.float32)
    policy = SquashedGaussianPolicy(MLP((8,)).build(VECTOR), linear_head(8, 4, None), box)
    assert all(path.is_file() for path in export(policy, VECTOR, tmp_path))


def test_a_file_that_disagrees_is_not_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    policy = policy_of(VECTOR, spaces.Box(-2.0, 2.0, (2,), np.float32))
    honest = torch.export.load
    monkeypatch.setattr(torch.export, "load", lambda path: _Shifted(honest(path)))
    with pytest.raises(ExportError, match="acts differently"):
        export(policy, VECTOR, tmp_path)


class _Shifted:
    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self.inner = program.module()

    def module(self):
        return lambda obs: self.inner(obs) + 1e-2


def test_a_memory_is_refused(tmp_path: Path):
    policy = ActorCritic(Recurrent(MLP((8,)))).build(VECTOR, spaces.Discrete(2)).policy
    with pytest.raises(ExportError, match="memory"):
        export(policy, VECTOR, tmp_path)
