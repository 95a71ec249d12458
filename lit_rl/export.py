"""A policy as a file that needs nothing of this library: ONNX and ``torch.export``, both checked."""

import logging
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from lit_rl.batch import Observation
from lit_rl.envs.vector import stack_observations
from lit_rl.policies.policy import Policy

ROWS = 64  # random observations of the check
TOLERANCE = 1e-4  # of a continuous action, relative and absolute
INSTALL = "pip install 'lit_rl[export]'"


class ExportError(RuntimeError):
    """The policy cannot be exported, or what was written acts differently."""


def export(policy: Policy, observation_space: gymnasium.Space, folder: str | Path) -> list[Path]:
    """Write ``policy.pt2`` and ``policy.onnx``: observations [B, ...] in, greedy actions [B] or [B, A] out, any B.

    For a ``Dict`` space the graph's inputs are named by its keys. Both files are read back and compared with the
    policy on random observations.

    Raises:
        ExportError: it has a memory, something is not installed, or a file disagrees with the policy.
    """
    if policy.state_size:
        raise ExportError("a policy with a memory is not exported: its actions depend on the past")
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(f"export needs {error.name}: {INSTALL}") from None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of packages that nobody needs
    folder = Path(folder)
    policy = policy.cpu().eval()
    obs = _observations(observation_space, ROWS)
    with torch.no_grad():
        wanted = policy(obs)
        batch = torch.export.Dim("batch", min=1)
        shapes = {key: {0: batch} for key in obs} if isinstance(obs, dict) else {0: batch}
        program = torch.export.export(policy, (obs,), dynamic_shapes=(shapes,))
    folder.mkdir(parents=True, exist_ok=True)
    torch_file, onnx_file = folder / "policy.pt2", folder / "policy.onnx"
    torch.export.save(program, torch_file)
    names = list(obs) if isinstance(obs, dict) else ["obs"]
    torch.onnx.export(
        program, f=str(onnx_file), input_names=names, output_names=["action"], external_data=False, verbose=False
    )

    loaded = torch.export.load(torch_file).module()
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    inputs = [given.name for given in session.get_inputs()]
    for rows in (1, ROWS):
        part = _rows(obs, rows)
        _compare(torch_file, loaded(part), wanted[:rows])
        arrays = part if isinstance(part, dict) else {"obs": part}
        action = session.run(None, {name: arrays[name].numpy() for name in inputs})[0]
        _compare(onnx_file, torch.as_tensor(action), wanted[:rows])
    return [torch_file, onnx_file]


def _observations(space: gymnasium.Space, count: int) -> Observation:
    space.seed(0)
    sampled = stack_observations([_finite(space.sample()) for _ in range(count)])
    if isinstance(sampled, dict):
        if "action_mask" in sampled and isinstance(space, spaces.Dict):
            sampled["action_mask"][:, 0] = 1  # some action is always legal
        return {key: torch.as_tensor(value) for key, value in sampled.items()}
    return torch.as_tensor(sampled)


def _finite(sample: Any) -> Any:
    """Bounds of 3e38 are none, and would fill the networks with infinities."""
    if isinstance(sample, dict):
        return {key: _finite(value) for key, value in sample.items()}
    sample = np.asarray(sample)
    return np.clip(sample, -100, 100) if sample.dtype.kind == "f" else sample


def _rows(obs: Observation, count: int) -> Observation:
    return {key: value[:count] for key, value in obs.items()} if isinstance(obs, dict) else obs[:count]


def _compare(path: Path, found: Tensor, wanted: Tensor) -> None:
    close = found.shape == wanted.shape and torch.allclose(found.double(), wanted.double(), TOLERANCE, TOLERANCE)
    if not close:
        raise ExportError(f"{path} acts differently from the policy: it is not to be used")
