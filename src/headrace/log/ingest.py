"""From a source to a log, done once: asking again for the same data changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..errors import DataError
from .format import Log
from .raw import RawLog
from .write import write_log


class Source(Protocol):
    """Where a log comes from; the adapters in ``sources`` are such, all of them FileSources."""

    def read(self) -> RawLog:
        """Everything there is."""
        ...

    def fingerprint(self) -> str:
        """Different when the data or how they are read differ."""
        ...


def ingest(
    source: Source, path: Path, *, append: bool = False, force: bool = False
) -> tuple[Log, bool]:
    """Bring the log at ``path`` up to date with ``source``; also tell whether it changed.

    A log that already holds the source in its present state is left as it is, unless ``force``
    rebuilds it. ``append`` adds the source, such as a later day, to what the log holds; otherwise
    the log is replaced, in one step and only when all has been read and written.
    """
    if append and force:
        raise DataError(f"{path}: append extends the log, force rebuilds it; choose one")
    fingerprint = source.fingerprint()
    if not force:
        log = _current(path, needed=append)
        if log is not None and fingerprint in log.manifest.sources:
            return log, False
    return write_log(path, source.read(), fingerprint, append=append), True


def _current(path: Path, *, needed: bool) -> Log | None:
    """The log that is there; one that cannot be read counts only when it is to be extended."""
    if not (path / "CURRENT").exists():
        return None
    try:
        return Log.open(path)
    except DataError:
        if needed:
            raise
        return None
