"""Which packages a recipe may import code from. What a file or a command line names runs only if it stands here."""

ALLOWED: set[str] = {"lit_rl", "gymnasium", "lightning", "torch", "torchmetrics"}
"""Top-level packages. Add your own with :func:`allow`."""


def allow(package: str) -> None:
    """Let recipes name classes and environments of ``package`` (its top-level name counts)."""
    ALLOWED.add(package.partition(".")[0])


def check(module: str) -> None:
    """Raise unless ``module`` may be imported.

    Raises:
        ValueError: its top-level package was never allowed.
    """
    package = module.partition(".")[0]
    if package not in ALLOWED:
        raise ValueError(
            f"{module!r} is not on the list of packages to import from; call lit_rl.allow({package!r}) first"
        )
