"""One writer at a time, by a lock that the system drops when its process ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ..errors import DataError


def claim(file: Path, place: Path) -> int:
    """Open ``file``, made with its folder if need be, as its one writer; its descriptor.

    Raises DataError, which calls it ``place``, when it cannot be opened or somebody else has it.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DataError(f"{place}: cannot be opened ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        taken = isinstance(error, BlockingIOError)
        why = f"cannot be locked ({error.strerror}); is it on a local disk?"
        message = "another server is writing it; stop that one first" if taken else why
        raise DataError(f"{place}: {message}") from None
    return descriptor
