"""The same tasks as Stable-Baselines3 and sb3-contrib solve them: each returns a model for one seed."""

from typing import Any

import gymnasium


def sb3_ppo(seed: int) -> Any:
    from stable_baselines3 import PPO as Peer
    from stable_baselines3.common.env_util import make_vec_env

    return Peer(
        "MlpPolicy",
        make_vec_env("CartPole-v1", 8, seed=seed),
        learning_rate=2.5e-4,
        n_steps=128,
        batch_size=256,
        n_epochs=4,
        ent_coef=0.01,
        seed=seed,
        device="cpu",
    )


def sb3_a2c(seed: int) -> Any:
    from stable_baselines3 import A2C as Peer
    from stable_baselines3.common.env_util import make_vec_env

    return Peer("MlpPolicy", make_vec_env("CartPole-v1", 8, seed=seed), n_steps=5, seed=seed, device="cpu")


def sb3_trpo(seed: int) -> Any:
    from sb3_contrib import TRPO as Peer
    from stable_baselines3.common.env_util import make_vec_env

    return Peer(
        "MlpPolicy",
        make_vec_env("CartPole-v1", 2, seed=seed),
        learning_rate=1e-3,
        n_steps=512,
        batch_size=128,
        gae_lambda=0.98,
        cg_max_steps=15,
        cg_damping=1e-3,
        n_critic_updates=20,
        target_kl=0.01,
        seed=seed,
        device="cpu",
    )


def sb3_dqn(every: int, seed: int) -> Any:
    from stable_baselines3 import DQN as Peer

    model = Peer(
        "MlpPolicy",
        "CartPole-v1",
        learning_rate=1e-3,
        buffer_size=100_000,
        learning_starts=1_000,
        batch_size=128,
        train_freq=every,
        gradient_steps=1,
        target_update_interval=500,
        exploration_initial_eps=1.0,
        exploration_final_eps=0.05,
        exploration_fraction=0.5,
        policy_kwargs={"net_arch": [120, 84]},
        seed=seed,
        device="cpu",
    )
    return model


def _sb3_pendulum(name: str, seed: int, width: int, **settings: Any) -> Any:
    """What all agents on Pendulum have in common."""
    import stable_baselines3

    return getattr(stable_baselines3, name)(
        "MlpPolicy",
        gymnasium.make("Pendulum-v1"),
        learning_rate=1e-3,
        buffer_size=100_000,
        policy_kwargs={"net_arch": [width, width]},
        seed=seed,
        device="cpu",
        **settings,
    )


def sb3_sac(seed: int) -> Any:
    return _sb3_pendulum("SAC", seed, 256, learning_starts=100, batch_size=256)


def sb3_deterministic(name: str, seed: int) -> Any:
    """DDPG or TD3, by name, with Gaussian noise."""
    import numpy as np
    from stable_baselines3.common.noise import NormalActionNoise

    noise = NormalActionNoise(np.zeros(1), np.full(1, 0.1))
    return _sb3_pendulum(name, seed, 128, learning_starts=500, batch_size=128, gamma=0.98, action_noise=noise)
