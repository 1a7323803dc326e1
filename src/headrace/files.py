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
    swap(folder, final)
    return final


def swap(folder: Path, final: Path) -> None:
    """Point CURRENT at ``final``; drop dead drafts and all but the version just replaced."""
    current = folder / "CURRENT"
    previous = current.resolve().name if current.exists() else final.name
    link = folder / f".current-{uuid.uuid4().hex[:8]}"
    sync_folder(folder / "versions")
    link.symlink_to(Path("versions") / final.name)
    os.replace(link, current)
    sync_folder(folder)
    for version in (folder / "versions").iterdir():  # readers may still map the previous one
        if version.name not in {final.name, previous}:
            shutil.rmtree(version, ignore_errors=True)


def sync_folder(path: Path) -> None:
    """Make names that were just added or replaced survive a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
