"""Immutable directories behind a link: write beside, then swap. Logs and bundles are kept so."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path


def digest(path: Path) -> str:
    """BLAKE2b of a file, 128 bits in hex."""
    hashed = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            hashed.update(block)
    return hashed.hexdigest()


def draft(folder: Path) -> Path:
    """A new directory in which a version may be written unseen."""
    path = folder / "versions" / f".{uuid.uuid4().hex[:12]}"
    path.mkdir(parents=True)
    return path


def publish(folder: Path, written: Path, name: str) -> Path:
    """Make a finished draft the current version; keep the one before it for its readers."""
    for file in written.rglob("*"):
        if file.is_file():
            with file.open("rb+") as stream:
                os.fsync(stream.fileno())
    final = folder / "versions" / name
    if final.exists():
        shutil.rmtree(written)
    else:
        written.rename(final)
    current = folder / "CURRENT"
    previous = current.resolve().name if current.exists() else name
    link = folder / f".current-{uuid.uuid4().hex[:8]}"
    link.symlink_to(Path("versions") / name)
    os.replace(link, current)
    for version in (folder / "versions").iterdir():
        if version.name not in {name, previous}:
            shutil.rmtree(version, ignore_errors=True)
    return final
