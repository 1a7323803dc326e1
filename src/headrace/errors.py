"""What a user may do wrong. The command line prints these as one line; the server maps them to 4xx.

Anything else that escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HeadraceError(Exception):
    """A mistake outside the program. The message says what, where and the remedy, on one line."""


class ConfigError(HeadraceError):
    """A mistake in a config file: file, line, key, and what would do."""


class DataError(HeadraceError):
    """Raw data, a log or an event that cannot be used as it is."""


class BundleError(HeadraceError):
    """A bundle that is damaged, or that was built for something else."""


class RequestError(HeadraceError):
    """A request that cannot be answered as asked; the server answers 4xx."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Say what was probably meant, or list what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"
