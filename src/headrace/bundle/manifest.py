"""What a bundle says of itself, in ``manifest.toml``."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import polars as pl
from pydantic import ValidationError

from ..config import Config
from ..errors import BundleError
from ..schema import Schema

FORMAT = 1


class Manifest(Config):
    """Enough to tell whether a bundle is whole, and what it fits."""

    format: int
    headrace: str
    """Version of the program that wrote it."""
    name: str
    version: str
    """Hash of all files: two bundles of one version are the same."""
    schema_hash: str
    types: tuple[str, ...]
    """Event types of the log, by code."""
    num_items: int
    items_hash: str
    """Of the raw ids of the items, in order: a log must begin with the same."""
    num_users: int
    users_hash: str
    interval_ms: Mapping[str, tuple[int, int]]
    """What the parts were trained, tuned and to be tested on."""
    metrics: Mapping[str, float]
    """Validation metric of each trained model."""
    files: Mapping[str, str]
    """Digest of every file but this one."""

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read and check ``manifest.toml``."""
        try:
            raw = tomllib.loads(path.read_text())
        except OSError:
            raise BundleError(
                f"{path.parent}: no bundle here; run `headrace train` first"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            raise BundleError(f"{path}: altered or truncated; train again") from None
        if raw.get("format") != FORMAT:
            raise BundleError(
                f"{path}: of format {raw.get('format')}, this program reads {FORMAT}; train again"
            )
        try:
            return cls.model_validate_json(json.dumps(raw), strict=True)
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            raise BundleError(f"{path}: altered or truncated at {place!r}; train again") from None


def schema_hash(schema: Schema) -> str:
    """Name a schema by what it says."""
    text = json.dumps(schema.model_dump(mode="json"), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def ids_hash(ids: pl.Series) -> str:
    """Name a list of raw ids by its content."""
    hashed = hashlib.blake2b(digest_size=16)
    for value in ids.to_list():
        hashed.update(str(value).encode() + b"\0")
    return hashed.hexdigest()


def difference(wanted: Schema, there: Schema) -> str | None:
    """The first thing in which two schemas differ, in words; None when they agree."""
    for part in ("features", "tables", "sequences"):
        a, b = wanted.model_dump()[part], there.model_dump()[part]
        for name in sorted(a.keys() | b.keys()):
            if name not in b:
                return f"{part}.{name} is not in the bundle"
            if name not in a:
                return f"{part}.{name} is in the bundle only"
            for key in a[name]:
                asked, got = a[name][key], b[name][key]
                if asked != got:
                    return f"{part}.{name}.{key} is {got!r} in the bundle, not {asked!r}"
    return None if wanted == there else "its general settings differ"
