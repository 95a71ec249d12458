"""A fresh rollout as single transitions, for online learners."""

import torch

from lit_rl.batch import Rollout, Transition, map_tensors


def fresh_transitions(rollout: Rollout, gamma: float) -> Transition:
    """The T·N one-step transitions of a rollout [T, N] of tensors, in time order, with their true successors."""
    steps = rollout.reward.numel()

    def successors(tensors: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        obs, final = tensors
        following = obs[1:].flatten(0, 1)
        return following.index_copy(0, rollout.final_index, final) if len(final) else following

    obs, final = rollout.obs, rollout.final_obs
    if isinstance(obs, dict):
        assert isinstance(final, dict)
        next_obs = {key: successors((obs[key], final[key])) for key in obs}
    else:
        assert isinstance(final, torch.Tensor)
        next_obs = successors((obs, final))  # type: ignore[assignment]
    return Transition(
        obs=map_tensors(lambda t: t[:-1].flatten(0, 1), obs),
        action=rollout.action.flatten(0, 1),
        reward=rollout.reward.flatten(),
        discount=gamma * (~rollout.terminated).flatten().float(),
        next_obs=next_obs,
        log_prob=rollout.log_prob.flatten(),
        weight=None,
        index=torch.arange(steps, device=rollout.reward.device),
    )
