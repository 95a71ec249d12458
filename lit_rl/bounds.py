"""What the fields of a recipe may be."""

from typing import Any


def refuse_below(recipe: Any, bound: float, *names: str) -> None:
    """Check that the fields ``names`` of ``recipe`` are at least ``bound``; one that is ``None`` is left out.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        value = getattr(recipe, name)
        if value is not None and not value >= bound:  # nan is refused, too
            raise ValueError(f"{type(recipe).__name__}.{name} is {value}; it must be at least {bound}")
