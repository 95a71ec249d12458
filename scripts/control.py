"""Draw the pictures of docs/control.md: `python scripts/control.py`. A minute on one core."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from lit_rl import ILQR, LQR, MPC, ControlTask  # noqa: E402
from lit_rl.callbacks.plans import begin_episode, cost_picture, trajectory_picture  # noqa: E402
from lit_rl.planning.shooting import CEM  # noqa: E402

CELLS = 25


def main() -> None:
    """A trajectory and a cost-to-go of each agent."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = ROOT / "docs" / "control"
    folder.mkdir(exist_ok=True)
    agents = {
        "lqr": LQR("lit_rl.envs.double_integrator:lit_rl/DoubleIntegrator-v0"),
        "ilqr": ILQR("Pendulum-v1"),
        "mpc": MPC("Pendulum-v1", planner=CEM(iterations=4), task=ControlTask(horizon=25)),
    }
    for name, agent in agents.items():
        states, plan = begin_episode(agent.policy, agent.env, 100, 0)
        pictures = {
            "trajectory": trajectory_picture(states.numpy(), plan, agent.policy.system.state_names),
            "cost-to-go": cost_picture(agent.policy, states, CELLS),
        }
        for kind, picture in pictures.items():
            Image.fromarray(picture).save(folder / f"{name}-{kind}.png")


if __name__ == "__main__":
    main()
