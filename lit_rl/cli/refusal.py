"""Saying no in one line."""

from collections.abc import Iterable
from difflib import get_close_matches


class Refusal(ValueError):
    """What was asked for is wrong: exit status 2, one line, and nothing was touched."""


def one_line(error: BaseException) -> str:
    """The message on one line; the exception's name where there is no message or it says little alone."""
    text = " ".join(str(error).split())
    if not text or isinstance(error, KeyError | IndexError | AttributeError | AssertionError | TypeError):
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?``, or nothing."""
    close = get_close_matches(name, list(dict.fromkeys(known)), n=3, cutoff=0.5)
    if not close:
        folded = {word.lower(): word for word in known}
        close = [folded[match] for match in get_close_matches(name.lower(), list(folded), n=3, cutoff=0.6)]
    return f"; did you mean {', '.join(close)}?" if close else ""
