"""Compare baselines, discount options, n and λ on CartPole and draw the figures of docs/policy_gradients.md.

`python scripts/policy_gradients.py` trains what docs/policy_gradients/curves.json lacks, some seconds for each run,
and draws; `--only-draw` trains nothing.
"""

import argparse
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from lightning.pytorch import Callback, seed_everything  # noqa: E402

from lit_rl import REINFORCE, BatchActorCritic, Critic, Env, Episodes, Optimizer, Rollouts, Trainer, WholeEpisodes  # noqa: E402
from lit_rl.agent import Agent  # noqa: E402

FOLDER = ROOT / "docs" / "policy_gradients"
STEPS, EPOCHS = 24_000, 8
PREFIX = "gradient_variance_"


def reinforce(**arguments: Any) -> Agent:
    """8 whole episodes an update, without standardising, which would be a baseline of its own."""
    data = WholeEpisodes(2, steps_per_epoch=STEPS // EPOCHS)
    fixed = {"optimizer": Optimizer(lr=5e-3), "standardize": False, "evaluation": Episodes(10)}
    return REINFORCE(Env("CartPole-v1", num_envs=4), data, **fixed | arguments)


def actor_critic(critic: Critic) -> Agent:
    """8 environments × 32 steps an update."""
    data = Rollouts(32, steps_per_epoch=STEPS // EPOCHS)
    optimizer = Optimizer(lr=5e-3, max_grad_norm=0.5)
    return BatchActorCritic(
        Env("CartPole-v1", num_envs=8), data, critic=critic, optimizer=optimizer, evaluation=Episodes(10)
    )


COMPARISONS: dict[str, dict[str, Callable[[], Agent]]] = {
    "baselines": {
        name: lambda name=name: reinforce(baseline=name, variance_every=5 if name == "learned" else None)  # type: ignore
        for name in ("none", "mean", "leave_one_out", "per_time", "optimal", "learned")
    },
    "weights": {
        name: lambda name=name: reinforce(weight=name, baseline="leave_one_out")  # type: ignore[misc]
        for name in ("whole_return", "reward_to_go", "discounted_reward_to_go", "maximum_likelihood")
    },
    "n-step": {
        name: lambda critic=critic: actor_critic(critic)  # type: ignore[misc]
        for name, critic in {
            "n = 1 (TD)": Critic("td"),
            "n = 5": Critic("n_step", n=5),
            "n = 20": Critic("n_step", n=20),
            "Monte Carlo": Critic("monte_carlo"),
        }.items()
    },
    "lambda": {
        f"λ = {lam:g}": lambda lam=lam: actor_critic(Critic("gae", lam=lam))  # type: ignore[misc]
        for lam in (0.0, 0.5, 0.9, 0.95, 1.0)
    },
}


class Curves(Callback):
    """Evaluations, and the analysed variances, by env steps."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.returns: list[float] = []
        self.variance: dict[str, list[float]] = {}

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """The variances of the epoch: means over its analyses."""
        for name, value in pl_module.metrics.latest.items():
            if name.startswith(PREFIX):
                self.variance.setdefault(name.removeprefix(PREFIX), []).append(float(value))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """One evaluation."""
        if not trainer.sanity_checking:
            self.steps.append(pl_module.env_steps)
            self.returns.append(float(trainer.callback_metrics["val/return"]))


def train(build: Callable[[], Agent], seed: int) -> dict[str, Any]:
    """One run."""
    seed_everything(seed, verbose=False)
    curves = Curves()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        Trainer(folder, EPOCHS, callbacks=[curves], **quiet).fit(build())
    return {"steps": curves.steps, "returns": curves.returns, "variance": curves.variance}


def draw(results: dict[str, dict[str, dict[str, Any]]]) -> None:
    """A figure for each comparison, the mean over its seeds, and one of the variances."""
    from matplotlib.figure import Figure

    for comparison, variants in results.items():
        figure = Figure(figsize=(6.4, 3.6), dpi=110, layout="constrained")
        axes = figure.subplots()
        for name, seeds in variants.items():
            grid = np.linspace(0, STEPS, EPOCHS + 1)[1:]
            rows = [np.interp(grid, run["steps"], run["returns"]) for run in seeds.values()]
            (line,) = axes.plot(grid, np.mean(rows, 0), label=name, linewidth=1.8)
            axes.fill_between(grid, np.min(rows, 0), np.max(rows, 0), color=line.get_color(), alpha=0.12, linewidth=0)
        _finish(axes, f"CartPole-v1: {comparison}", "evaluation return")
        figure.savefig(FOLDER / f"{comparison}.png", metadata={"Software": None})

    figure = Figure(figsize=(6.4, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    runs = list(results.get("baselines", {}).get("learned", {}).values())
    for name in runs[0]["variance"] if runs else []:
        length = min(len(run["variance"][name]) for run in runs)
        rows = [np.log(run["variance"][name][:length]) for run in runs]
        axes.plot(runs[0]["steps"][:length], np.exp(np.mean(rows, 0)), label=name, linewidth=1.8)
    axes.set_yscale("log")
    _finish(axes, "variance of one gradient estimate under each baseline", "trace of the covariance")
    figure.savefig(FOLDER / "variance.png", metadata={"Software": None})


def _finish(axes: Any, title: str, label: str) -> None:
    axes.set(title=title, xlabel="environment steps", ylabel=label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.legend(frameon=False, fontsize=9)


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing, keep it, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only-draw", action="store_true", help="train nothing")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    FOLDER.mkdir(parents=True, exist_ok=True)
    kept = FOLDER / "curves.json"
    results = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    for seed in [] if options.only_draw else options.seeds:
        for comparison, variants in COMPARISONS.items():
            for name, build in variants.items():
                runs = results.setdefault(comparison, {}).setdefault(name, {})
                if str(seed) not in runs:
                    runs[str(seed)] = train(build, seed)
                    kept.write_text(json.dumps(results, ensure_ascii=False), "utf-8")
                    print(f"{comparison}, {name}, seed {seed}: {runs[str(seed)]['returns'][-1]:.0f}", flush=True)
    draw(results)


if __name__ == "__main__":
    main()
