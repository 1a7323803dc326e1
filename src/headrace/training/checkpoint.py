"""A training run on disk: written whole or not at all, read back with nothing executed."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError
from ..files import sync_folder

FILE = "checkpoint.pt"
FORMAT = 1


def save(directory: Path, state: Mapping[str, Any]) -> None:
    """Replace the directory's checkpoint by ``state``: tensors, numbers, strings, lists, dicts.

    The new file is complete and on disk before it takes the old one's place, so that neither a
    crash nor a full disk costs the old one. Raises DataError if it cannot be written.
    """
    path = directory / FILE
    fresh = path.with_suffix(".tmp")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_folder(directory)
    except (OSError, RuntimeError) as error:  # torch wraps what its file raises
        raise DataError(f"{path}: checkpoint cannot be written ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        seen = seen.__cause__ or seen.__context__
    return str(error).splitlines()[0]


def load(directory: Path) -> dict[str, Any] | None:
    """The directory's checkpoint, or None if there is none. Raises DataError if it is damaged."""
    path = directory / FILE
    if not path.exists():
        return None
    remedy = "delete it to start over"
    try:
        with zipfile.ZipFile(path) as file:  # torch does not check the sums that it writes
            bad = file.testzip()
        if bad is not None:
            raise DataError(f"{path}: checkpoint is damaged in {bad}; {remedy}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(f"{path}: checkpoint cannot be read ({error.strerror})") from error
    except (zipfile.BadZipFile, UnpicklingError, ValueError, RuntimeError, EOFError) as error:
        raise DataError(f"{path}: checkpoint is damaged ({error}); {remedy}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise DataError(f"{path}: not a checkpoint of this version of headrace; {remedy}")
    return state


def differing(ours: Mapping[str, object], theirs: Mapping[str, object]) -> str | None:
    """Name the first key on which two mappings differ and say how; None if they agree."""
    for key in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(key, "absent"), theirs.get(key, "absent")
        if here != there:
            return f"{key} is {here} here, {there} there"
    return None


def shapes(weights: Mapping[str, Tensor]) -> dict[str, object]:
    """What must agree before weights are loaded."""
    return {name: tuple(value.shape) for name, value in weights.items()}
