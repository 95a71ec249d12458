"""The benefits of soft optimality on exact worlds, one claim each; docs/soft_optimality.md quotes what is found here.

Formula sheet: 15.6.4a, 15.5a.
"""

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_rl.envs.finite_mdp import FiniteMDP, grid, maze
from lit_rl.planning.dynamic_programming import value_iteration
from lit_rl.planning.evaluation import greedy, policy_value
from lit_rl.planning.inference import posterior_policy, soft_horizon_values, soft_value_iteration, uniform_prior
from lit_rl.planning.model import Model

GAMMA = 0.95
PAGE = " ".join((Path(__file__).resolve().parents[2] / "docs" / "soft_optimality.md").read_text("utf-8").split())


def quoted(*words: object) -> None:
    """The page has a row of its tables, or a phrase, with these words."""
    text = " | ".join(map(str, words))
    assert text in PAGE, f"docs/soft_optimality.md does not say {text!r}"


def performance(model: Model, policy: torch.Tensor) -> float:
    return float(model.initial @ policy_value(model, policy, GAMMA))


def soft(model: Model, alpha: float) -> torch.Tensor:
    return soft_value_iteration(model, GAMMA, alpha, uniform_prior(model), 1e-12).policy


def hard(model: Model) -> torch.Tensor:
    return value_iteration(model, GAMMA, 1e-12).policy


# The limit


def test_cold_it_is_the_hard_optimum() -> None:
    """V* ≤ V_α ≤ V* + α log A/(1 − γ); with a uniform prior as far below; J of both policies meets J*."""
    model = grid().model()
    exact = value_iteration(model, GAMMA, 1e-12)
    best, last = performance(model, exact.policy), 0.0
    for alpha in (0.1, 0.03, 0.01, 0.003, 0.001):
        bound = alpha * math.log(4) / (1 - GAMMA)
        free, weighed = (soft_value_iteration(model, GAMMA, alpha, p, 1e-12) for p in (None, uniform_prior(model)))
        above, below = free.value - exact.value, exact.value - weighed.value
        assert min(above.min(), below.min()) >= -1e-10 and max(above.max(), below.max()) <= bound
        found = performance(model, weighed.policy)
        assert last < found < best
        last = found
        row = (performance(model, free.policy), found, float(above.max()), bound)
        quoted(alpha, *(f"{value:.3f}" for value in row))
    assert last == pytest.approx(best, abs=1e-3)
    assert performance(model, greedy(weighed.q)) == pytest.approx(best, abs=1e-9)
    quoted(f"J* = {best:.3f}")


# Ties


def test_ties_are_shared_and_small_errors_stay_small() -> None:
    """Nine cells of an open grid have two best moves. Errors of 1e-9 turn the greedy move, not the soft one."""
    model = grid(4, 0.0).model()
    exact = value_iteration(model, GAMMA, 1e-13)
    policy = soft(model, 0.01)
    best = exact.q >= exact.q.amax(-1, keepdim=True) - 1e-9
    tied = (best.sum(-1) == 2) & (torch.arange(16) < 15)
    assert int(tied.sum()) == 9
    assert int((greedy(exact.q)[tied][best[tied]] == 0).sum()) == 9
    quoted(f"each best move has at least {float(policy[tied][best[tied]].min()):.2f}")
    together = float((policy * best).sum(-1)[:15].min())
    assert together > 0.95
    quoted(f"all best moves together at least {together:.2f}")
    generator, turned, moved = torch.Generator().manual_seed(0), [], []
    for _ in range(100):
        q = exact.q + 1e-9 * torch.randn(exact.q.shape, generator=generator, dtype=torch.float64)
        turned.append(int((q.argmax(-1) != exact.q.argmax(-1))[:15].sum()))
        change = posterior_policy(q, 0.01) - posterior_policy(exact.q, 0.01)
        moved.append(float(change[:15].abs().sum(-1).max()) / 2)
    mean, most = sum(turned) / 100, max(moved)
    assert mean > 3 and most < 1e-6
    quoted(f"turn {mean:.1f} of the 15 greedy moves")
    quoted("no probability of the soft policy by more than 1e-6")


def test_all_shortest_ways_are_equally_likely() -> None:
    """Six steps from corner to corner, undiscounted, deterministic: p(τ) ∝ exp(return/α), so 20 ways share alike."""
    model, alpha = grid(4, 0.0).model(), 0.05
    policies = posterior_policy(soft_horizon_values(model, 6, alpha).q, alpha)
    chances = []
    for rights in combinations(range(6), 3):
        state, chance = 0, 1.0
        for t in range(6):
            action = 1 if t in rights else 2
            chance *= float(policies[t, state, action])
            state += 1 if action == 1 else 4
        assert state == 15
        chances.append(chance)
    assert len(chances) == 20 and max(chances) - min(chances) < 1e-12
    assert chances[0] == pytest.approx(math.exp(1 / alpha) / (20 * math.exp(1 / alpha) + 4**6 - 20), rel=1e-3)
    quoted("each of the 20 shortest ways has probability 0.0500")
    assert f"{chances[0]:.4f}" == "0.0500"


# Robustness


def ring(right: str, down: str) -> Model:
    """Two ways of eight steps around a block, each with one cell that may be a wall."""
    rows = ["S." + right + "..", ".###.", down + "###.", ".###.", "....G"]
    return maze(rows).model()


def test_a_way_that_is_suddenly_closed() -> None:
    """Planned in the open ring, played where one way is closed: the worse of the two."""
    planned_in = ring(".", ".")
    worlds = {"open": planned_in, "right": ring("#", "."), "down": ring(".", "#")}
    worst = {}
    for alpha in (0.0, 0.02, 0.05, 0.1):
        policy = soft(planned_in, alpha) if alpha else hard(planned_in)
        found = [performance(model, policy) for model in worlds.values()]
        worst[alpha] = min(found)
        quoted(alpha, *(f"{value:.3f}" for value in found))
    assert worst[0.0] == 0.0
    assert all(worst[alpha] > 0.3 for alpha in (0.02, 0.05, 0.1))


def tilted(model: Model, penalty: torch.Tensor) -> Model:
    return model._replace(reward=model.reward - penalty)


def test_return_plus_entropy_is_the_worst_case_over_rewards() -> None:
    """J + α Σ γᵗ (H − log A) = min over Δ with mean_a exp(Δ(s, a)/α) ≤ 1 of the return under r − Δ, for any policy.

    Eysenbach & Levine 2022. The least is at Δ = α log(A π); the soft-optimal policy has the best of these least.
    """
    model, alpha = ring(".", "."), 0.05
    generator = torch.Generator().manual_seed(0)
    policies = [soft(model, alpha), *torch.randn(9, *model.reward.shape, generator=generator).double().softmax(-1)]
    least = []
    for policy in policies:
        least.append(performance(tilted(model, alpha * (4 * policy).log()), policy))
        for _ in range(10):
            x = 2 * torch.randn(model.reward.shape, generator=generator, dtype=torch.float64)
            penalty = alpha * (x - (x.logsumexp(-1, keepdim=True) - math.log(4)))
            torch.testing.assert_close((penalty / alpha).exp().mean(-1), torch.ones(len(x), dtype=torch.float64))
            assert performance(tilted(model, penalty), policy) >= least[-1] - 1e-9
    assert least[0] == max(least)
    exact = soft_value_iteration(model, GAMMA, alpha, uniform_prior(model), 1e-12)
    assert least[0] == pytest.approx(float(model.initial @ exact.value), abs=1e-9)
    certain = hard(model)
    of_hard = performance(tilted(model, torch.full_like(certain, alpha * math.log(4))), certain)
    quoted(f"{performance(model, certain):.3f} at best and {of_hard:.3f} at worst")
    quoted(f"{performance(model, policies[0]):.3f} at best and {least[0]:.3f} at worst")
    assert of_hard < least[0]


# Exploration

STEPS = (30, 300, 600)


def corridor(cells: int = 10) -> FiniteMDP:
    """Left and right from cell 1: cell 0 ends with ½, and the last, which is worth more, with 1."""
    transition, reward = np.zeros((cells, 2, cells)), np.zeros((cells, 2))
    inner, ends = np.arange(1, cells - 1), np.array([0, cells - 1])
    transition[inner, 0, inner - 1] = transition[inner, 1, inner + 1] = transition[ends, :, ends] = 1.0
    reward[1, 0], reward[-2, 1] = 0.5, 1.0
    return FiniteMDP(transition, reward, np.eye(cells)[1], np.isin(np.arange(cells), ends))


def climb(alpha: float, cold_from: int) -> list[tuple[float, float]]:
    """J and the entropy at the start after STEPS exact gradient steps (size 10) on J + α Σ γᵗ (H − log A), α last 0."""
    model, found, inner = corridor().model(), [], torch.from_numpy(~corridor().terminal)
    logits = torch.zeros_like(model.reward, requires_grad=True)
    for step in range(STEPS[-1] + 1):
        log_policy = logits.log_softmax(-1)
        policy = log_policy.exp()
        if step in STEPS:
            entropy = -(policy * log_policy).sum(-1)
            found.append((performance(model, policy.detach()), float(entropy[1].detach())))
        excess = alpha * (step < cold_from) * (math.log(2) + log_policy) * inner[:, None]  # its mean is α (log A − H)
        objective = model.initial @ policy_value(tilted(model, excess), policy, GAMMA)
        (slope,) = torch.autograd.grad(objective, logits)
        logits = (logits + 10 * slope).detach().requires_grad_()
    return found


def test_entropy_keeps_looking_where_the_plain_gradient_has_settled() -> None:
    """All probabilities begin even, and what is near is found first: the gradient leaves little chance to turn back."""
    best = performance(corridor().model(), hard(corridor().model()))
    quoted(f"J* = {best:.3f} lies at the far end")
    for words, alpha, cold_from in (("0", 0.0, 0), ("0.02", 0.02, STEPS[2]), ("0.02, then 0", 0.02, STEPS[1])):
        found = climb(alpha, cold_from)
        quoted(words, *(f"{number:.3f}" for pair in found for number in pair))
        if alpha:
            assert found[-1][0] > best - 0.01 and found[0][1] > 0.2
        else:
            assert found[-1][0] == pytest.approx(0.5, abs=1e-3) and found[-1][1] < 0.02
    assert found[-1][0] == pytest.approx(best, abs=3e-3), "cooled, it is nearly exact"


# Fine-tuning

ROOM = maze(["..G..", ".....", "G.S.G", ".....", "..G.."])
GOALS = [int(s) for s in ROOM.terminal.nonzero()[0]]


def one_goal(goal: int) -> Model:
    """The room in which only one of the four goals pays."""
    assert not isinstance(ROOM.transition, tuple)
    reward = ROOM.transition[:, :, goal] * ~ROOM.terminal[:, None]
    return FiniteMDP(ROOM.transition, reward, ROOM.initial, ROOM.terminal, ROOM.layout).model()


def steps_of_fine_tuning(policy: torch.Tensor, model: Model, most: int = 300) -> int:
    """Exact policy-gradient steps of size 10 on the logits until 90 % of the best return; ``most`` where never."""
    logits, best = policy.log().requires_grad_(), performance(model, hard(model))
    for step in range(most):
        value = model.initial @ policy_value(model, logits.softmax(-1), GAMMA)
        if float(value.detach()) >= 0.9 * best:
            return step
        (slope,) = torch.autograd.grad(value, logits)
        logits = (logits + 10 * slope).detach().requires_grad_()
    return most


def test_what_was_learnt_with_entropy_is_fine_tuned_at_once() -> None:
    """Four goals pay, then one alone. A policy that had settled for one of them has to unlearn it."""
    model = ROOM.model()
    for alpha in (0.2, 0.05, 0.01):
        policy = soft(model, alpha)
        steps = [steps_of_fine_tuning(policy, one_goal(goal)) for goal in GOALS]
        assert max(steps) <= 5
        quoted(f"soft, α = {alpha}", f"{performance(model, policy):.3f}", ", ".join(map(str, steps)))
    for epsilon in (0.1, 0.01, 0.001):
        policy = (1 - epsilon) * hard(model) + epsilon / 4
        steps = [steps_of_fine_tuning(policy, one_goal(goal)) for goal in GOALS]
        assert min(steps) == 0 and max(steps) >= 5
        quoted(f"greedy, ε = {epsilon}", f"{performance(model, policy):.3f}", ", ".join(map(str, steps)))
    logits = (300 * hard(model)).requires_grad_()  # e⁻³⁰⁰: greedy to the last digit
    value = one_goal(GOALS[-1]).initial @ policy_value(one_goal(GOALS[-1]), logits.softmax(-1), GAMMA)
    (slope,) = torch.autograd.grad(value, logits)
    assert float(value.detach()) < 1e-100 and float(slope.abs().max()) < 1e-100, "it never moves"
