"""Loops written by hand for one task each: about as fast as these algorithms run in Python on a CPU.

Nothing is logged, saved, checked or configurable. Acting goes through numpy, values come in one batch after
the rollout, Adam is fused, and SAC's actor loss spends nothing on gradients of the critics.
"""

import copy
from collections.abc import Sequence
from itertools import pairwise

import gymnasium
import numpy as np
import torch
from torch import nn
from torch.nn.functional import huber_loss, log_softmax, mse_loss, softplus


def network(sizes: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers with ``activation`` between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


def views(net: nn.Sequential) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases that follow every in-place update."""
    return [(m.weight.detach().numpy().T, m.bias.detach().numpy()) for m in net if isinstance(m, nn.Linear)]


def ppo(steps: int, seed: int, num_envs: int = 8, horizon: int = 128) -> list[float]:
    """CartPole; returns of the training episodes."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    same_step = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
    envs = gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode="sync", vector_kwargs=same_step)
    actor, critic = network((4, 64, 64, 2), nn.Tanh), network((4, 64, 64, 1), nn.Tanh)
    for net, gain in ((actor, 0.01), (critic, 1.0)):
        for layer in net:
            if isinstance(layer, nn.Linear):
                nn.init.orthogonal_(layer.weight, gain if layer is net[-1] else 2**0.5)
                nn.init.zeros_(layer.bias)
    parameters = [*actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=2.5e-4, eps=1e-5, fused=True)
    layers = views(actor)
    obs, _ = envs.reset(seed=seed)
    returns, running = [], np.zeros(num_envs)
    rows = np.arange(num_envs)
    for _ in range(steps // (num_envs * horizon)):
        seen = np.empty((horizon + 1, num_envs, 4), np.float32)
        following = np.empty((horizon, num_envs, 4), np.float32)
        action = np.empty((horizon, num_envs), np.int64)
        log_prob, reward = (np.empty((horizon, num_envs), np.float32) for _ in range(2))
        terminated, done = (np.empty((horizon, num_envs), bool) for _ in range(2))
        for t in range(horizon):
            seen[t] = x = obs
            for weight, bias in layers[:-1]:
                x = np.tanh(x @ weight + bias)
            logits = x @ layers[-1][0] + layers[-1][1]
            action[t] = chosen = (logits - np.log(rng.standard_exponential(logits.shape))).argmax(-1)
            log_prob[t] = logits[rows, chosen] - np.log(np.exp(logits).sum(-1))
            obs, reward[t], terminated[t], truncated, info = envs.step(chosen)
            done[t] = terminated[t] | truncated
            running += reward[t]
            following[t] = obs
            for env in np.flatnonzero(done[t]):
                following[t, env] = info["final_obs"][env]
                returns.append(running[env])
                running[env] = 0.0
        states = torch.from_numpy(seen[:-1]).flatten(0, 1)
        with torch.no_grad():
            value = critic(torch.cat([states, torch.from_numpy(following).flatten(0, 1)])).numpy()
        value, next_value = value.reshape(2, horizon, num_envs)
        delta = reward + 0.99 * ~terminated * next_value - value
        advantage, trace = np.empty_like(delta), np.zeros(num_envs, np.float32)
        for t in reversed(range(horizon)):
            advantage[t] = trace = delta[t] + 0.99 * 0.95 * ~done[t] * trace
        flat = [torch.from_numpy(a).flatten() for a in (action, log_prob, advantage, advantage + value)]
        for _ in range(4):
            for index in torch.randperm(horizon * num_envs).split(256):
                s, (a, old, adv, target) = states[index], (x[index] for x in flat)
                log_p = log_softmax(actor(s), -1)
                log_ratio = log_p.gather(1, a[:, None])[:, 0] - old
                adv = (adv - adv.mean()) / (adv.std() + 1e-8)
                ratio = log_ratio.exp()
                policy_loss = -torch.min(ratio * adv, ratio.clamp(0.8, 1.2) * adv).mean()
                entropy = -(log_p.exp() * log_p).sum(-1).mean()
                loss = policy_loss + 0.5 * mse_loss(critic(s)[:, 0], target) - 0.01 * entropy
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 0.5)
                optimizer.step()
    return returns


class Ring:
    """A replay memory of packed float rows."""

    def __init__(self, capacity: int, width: int) -> None:
        self.rows, self.added = np.zeros((capacity, width), np.float32), 0
        self.tensor = torch.from_numpy(self.rows)

    def add(self, *parts: object) -> None:
        """One row."""
        np.concatenate(parts, out=self.rows[self.added % len(self.rows)])  # type: ignore[call-overload]
        self.added += 1

    def sample(self, rng: np.random.Generator, count: int) -> torch.Tensor:
        """Rows [count, width]."""
        return self.tensor.index_select(0, torch.from_numpy(rng.integers(0, min(self.added, len(self.rows)), count)))


def dqn(steps: int, seed: int, every: int) -> list[float]:
    """CartPole; returns of the training episodes."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    env = gymnasium.make("CartPole-v1", disable_env_checker=True)
    q = network((4, 120, 84, 2), nn.ReLU)
    target = copy.deepcopy(q)
    optimizer = torch.optim.Adam(q.parameters(), lr=1e-3, fused=True)
    layers, memory = views(q), Ring(100_000, 11)
    obs, _ = env.reset(seed=seed)
    returns, running = [], 0.0
    for step in range(1, steps + 1):
        if step <= 1000 or rng.random() < max(0.05, 1 - 0.95 * step / 10_000):
            action = int(rng.integers(2))
        else:
            x = obs
            for weight, bias in layers[:-1]:
                x = np.maximum(x @ weight + bias, 0)
            action = int((x @ layers[-1][0] + layers[-1][1]).argmax())
        following, reward, terminated, truncated, _ = env.step(action)
        memory.add(obs, following, (action, reward, 0.99 * (not terminated)))
        obs, running = following, running + float(reward)
        if terminated or truncated:
            returns.append(running)
            running, (obs, _) = 0.0, env.reset()
        if step > 1000 and step % every == 0:
            rows = memory.sample(rng, 128)
            with torch.no_grad():
                goal = rows[:, 9] + rows[:, 10] * target(rows[:, 4:8]).amax(-1)
            loss = huber_loss(q(rows[:, :4]).gather(1, rows[:, 8:9].long())[:, 0], goal)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(q.parameters(), 10.0)
            optimizer.step()
            if step % 500 == 0:
                target.load_state_dict(q.state_dict())
    return returns


def sac(steps: int, seed: int) -> list[float]:
    """Pendulum; returns of the training episodes."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    env = gymnasium.make("Pendulum-v1", disable_env_checker=True)
    actor = network((3, 256, 256, 2), nn.ReLU)
    critics = nn.ModuleList(network((4, 256, 256, 1), nn.ReLU) for _ in range(2))
    targets = copy.deepcopy(critics).requires_grad_(False)
    log_alpha = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.Adam([*actor.parameters(), *critics.parameters(), log_alpha], lr=1e-3, fused=True)
    online, slow = list(critics.parameters()), list(targets.parameters())
    layers, memory = views(actor), Ring(100_000, 9)

    def sample(s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_std = actor(s).chunk(2, -1)
        log_std = log_std.clamp(-5, 2)
        noise = torch.randn_like(mean)
        u = mean + log_std.exp() * noise
        squash = 2 * (0.6931472 - u - softplus(-2 * u)) + 0.6931472
        return 2 * torch.tanh(u), (-0.5 * noise.square() - 0.9189385 - log_std - squash)[:, 0]

    def value(nets: nn.ModuleList, s: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        x = torch.cat([s, a / 2], -1)
        return torch.stack([net(x)[:, 0] for net in nets])

    obs, _ = env.reset(seed=seed)
    returns, running = [], 0.0
    for step in range(1, steps + 1):
        x = obs
        for weight, bias in layers[:-1]:
            x = np.maximum(x @ weight + bias, 0)
        mean, log_std = x @ layers[-1][0] + layers[-1][1]
        action = 2 * np.tanh([mean + np.exp(np.clip(log_std, -5, 2)) * rng.standard_normal()])
        if step <= 100:
            action = rng.uniform(-2, 2, 1)
        following, reward, terminated, truncated, _ = env.step(action)
        memory.add(obs, following, action, (reward, 0.99 * (not terminated)))
        obs, running = following, running + float(reward)
        if terminated or truncated:
            returns.append(running)
            running, (obs, _) = 0.0, env.reset()
        if step > 100:
            s, following_s, a, reward_discount = memory.sample(rng, 256).split((3, 3, 1, 2), -1)
            alpha = log_alpha.detach().exp()
            with torch.no_grad():
                next_a, next_log_p = sample(following_s)
                next_q = value(targets, following_s, next_a).amin(0) - alpha * next_log_p
                goal = reward_discount[:, 0] + reward_discount[:, 1] * next_q
            critic_loss = 0.5 * (value(critics, s, a) - goal).square().sum(0).mean()
            new_a, log_p = sample(s)
            gradient = critics.requires_grad_(False)
            actor_loss = (alpha * log_p - value(gradient, s, new_a).amin(0)).mean()
            critics.requires_grad_(True)
            loss = critic_loss + actor_loss - log_alpha * (log_p.detach().mean() - 1.0 + 0.6931472)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(slow, online, 0.005)
    return returns
