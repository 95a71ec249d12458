"""Draw the pictures of docs/exact.md: `python scripts/exact.py [--runs N] [--pulls T]`. Minutes on one core."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from lit_rl.algorithms.inverse.maxent_irl import expected_visits, irl_gradient  # noqa: E402
from lit_rl.callbacks.tables import heat_map, policy_picture  # noqa: E402
from lit_rl.data.demonstrations import Demonstrations  # noqa: E402
from lit_rl.envs.finite_mdp import cliff, four_rooms, grid  # noqa: E402
from lit_rl.envs.recipe import Env  # noqa: E402
from lit_rl.functional.statistics import stratified_bootstrap_interval  # noqa: E402
from lit_rl.planning import occupancy  # noqa: E402
from lit_rl.planning.bandits import lai_robbins_slope  # noqa: E402
from lit_rl.planning.dynamic_programming import policy_iteration  # noqa: E402
from lit_rl.policies.bandit import Belief, InformationDirectedPolicy, ThompsonPolicy, UCBPolicy  # noqa: E402
from lit_rl.policies.uniform import UniformPolicy  # noqa: E402

MEANS = np.array([0.2, 0.4, 0.5, 0.6, 0.8])
COLOURS = ("#1f5fa8", "#b3403a", "#3a8f4d")


def regrets(policy, runs: int, pulls: int) -> np.ndarray:
    """Cumulative pseudo-regret [runs, pulls]."""
    rows = np.zeros((runs, pulls))
    for run in range(runs):
        rng, counts, total = np.random.default_rng(run), np.zeros(5), np.zeros(5)
        for t in range(pulls):
            arm, _ = policy.choose(counts, total, rng)
            counts[arm] += 1
            total[arm] += rng.random() < MEANS[arm]
            rows[run, t] = MEANS.max() - MEANS[arm]
    return rows.cumsum(-1)


def draw_regret(folder: Path, runs: int, pulls: int) -> None:
    from gymnasium.spaces import Discrete
    from matplotlib.figure import Figure

    one, belief = Discrete(1), Belief()
    rules = {
        "UCB1": UCBPolicy(one, 5, 1.0),
        "Thompson": ThompsonPolicy(one, 5, belief),
        "IDS": InformationDirectedPolicy(one, 5, belief, "optimal_action", True),
    }
    figure = Figure(figsize=(6.4, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    shown = np.unique(np.geomspace(1, pulls, 40).astype(int)) - 1
    for (name, policy), colour in zip(rules.items(), COLOURS, strict=True):
        table = regrets(policy, runs, pulls)[:, shown]
        mean = lambda x: float(np.mean(x))  # noqa: E731
        intervals = [
            stratified_bootstrap_interval(column, np.random.default_rng(0), mean, resamples=300) for column in table.T
        ]
        low, high = np.array(intervals).T
        axes.fill_between(shown + 1, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(shown + 1, table.mean(0), color=colour, label=f"{name}: {table[:, -1].mean():.1f}")
        print(f"{name}: {table[:, -1].mean():.1f} [{low[-1]:.1f}, {high[-1]:.1f}] after {pulls} pulls, {runs} runs")
    slope = lai_robbins_slope(MEANS) * np.log(shown + 1)
    axes.plot(shown + 1, slope, color="grey", linestyle=":", label="Lai & Robbins' slope")
    axes.set(xlabel="pulls", ylabel="pseudo-regret", xscale="log", title=f"five Bernoulli arms, {runs} runs")
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(folder / "regret.png", metadata={"Software": None})


def recovered_reward() -> np.ndarray:
    """ψ [S] of a reward per state from the visits of an expert on the 5 × 5 grid, by gradient ascent."""
    env = Env("lit_rl.envs.finite_mdp:lit_rl/Grid-v0", kwargs={"size": 5, "slip": 0.1}).with_spaces()
    recipe = Demonstrations(horizon=20, episodes=None, temperature=0.1)
    expert = recipe.open(env, UniformPolicy(env.action_space), 1.0, 0).expert
    psi = torch.zeros(25, 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([psi], lr=0.1)
    for _ in range(300):
        model = expert.model._replace(reward=psi.detach().expand(25, 4))
        psi.grad = -irl_gradient(expert.visits, expected_visits(model, 20, 1.0, "causal")[0], 1.0).sum(-1, keepdim=True)
        optimizer.step()
    return psi.detach().numpy()[:, 0]


def main() -> None:
    from PIL import Image

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--pulls", type=int, default=2000)
    options = parser.parse_args()
    folder = ROOT / "docs" / "exact"
    folder.mkdir(parents=True, exist_ok=True)
    for name, mdp in (("cliff", cliff()), ("four-rooms", four_rooms(0.1))):
        model, layout = mdp.model(), mdp.layout
        assert layout is not None
        solution = policy_iteration(model, 0.99)
        visits = occupancy.expected_visits(model, solution.policy, 0.99).numpy()
        pictures = (heat_map(solution.value.numpy(), layout), policy_picture(solution.policy.numpy(), layout))
        gap = np.full((pictures[0].shape[0], 12, 3), 255, np.uint8)
        row = [pictures[0], gap, pictures[1], gap, heat_map(np.log1p(visits), layout)]
        Image.fromarray(np.concatenate(row, 1)).save(folder / f"{name}.png")
    true = grid(5, 0.1).reward.max(-1)
    both = [heat_map(true, (5, 5)), np.full((120, 12, 3), 255, np.uint8), heat_map(recovered_reward(), (5, 5))]
    Image.fromarray(np.concatenate(both, 1)).save(folder / "reward.png")
    draw_regret(folder, options.runs, options.pulls)


if __name__ == "__main__":
    main()
