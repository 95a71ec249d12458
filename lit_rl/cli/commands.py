"""The commands, by name."""

from importlib import import_module

from lit_rl.cli.loaded import export, play, predict, test, validate
from lit_rl.cli.refusal import Refusal, one_line
from lit_rl.cli.training import fit
from lit_rl.envs import allow as allowed

__all__ = ["allow", "export", "fit", "play", "predict", "test", "validate"]


def allow(package: str) -> None:
    """Import a user's package, so that its agents and environments register, and let class paths name it.

    Raises:
        Refusal: it cannot be imported.
    """
    allowed.allow(package)
    try:
        import_module(package)
    except ImportError as error:
        raise Refusal(f"--allow {package}: {one_line(error)}") from None
