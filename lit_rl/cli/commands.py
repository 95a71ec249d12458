"""The commands, by name."""

from importlib import import_module

from lit_rl.cli.refusal import Refusal, one_line
from lit_rl.cli.training import fit as fit
from lit_rl.envs import allow as allowed


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
