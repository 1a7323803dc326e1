"""Write a trained cascade, or a version of it in which some parts are tuned."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import tomli_w
from safetensors.torch import save_file
from torch import Tensor

from .. import __version__, files
from ..app import App
from ..calibration import Calibration
from ..errors import BundleError
from ..features import FeatureSpace
from ..log import Log
from ..nn.pointwise import Pointwise
from ..samples.split import Split
from ..serving.blend import Blend
from ..serving.merge import Merge
from ..stages import Retriever
from .bundle import Bundle
from .manifest import FORMAT, Manifest, ids_hash, schema_hash


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All that training leaves behind."""

    space: FeatureSpace
    channels: Mapping[str, Retriever]
    merge: Merge
    preranker: Pointwise
    rankers: Mapping[str, Pointwise]  # "ranking" is served, the others are compared with it
    calibrations: Mapping[str, Calibration]  # by ranker
    blends: Mapping[str, Blend]  # "preranking", "ranking", and "ranking.NAME" of tiers


def write_bundle(
    folder: Path,
    app: App,
    text: str,
    parts: Parts,
    log: Log,
    split: Split,
    metrics: Mapping[str, float],
) -> Bundle:
    """Write ``parts`` as the current version of the bundle at ``folder`` and open it.

    ``text`` is the configuration file, kept as it is. A failure leaves the version before it whole.
    """
    manifest = Manifest(
        format=FORMAT,
        headrace=__version__,
        name=app.name,
        version="",
        schema_hash=schema_hash(app.schema_),
        types=log.manifest.event_types,
        num_items=log.manifest.num_items,
        items_hash=ids_hash(log.items["item"]),
        num_users=log.manifest.num_users,
        users_hash=ids_hash(log.users["user"]),
        interval_ms={p: split.interval(p) for p in ("train", "valid", "test")},
        metrics=metrics,
        files={},
    )

    def fill(draft: Path) -> None:
        (draft / "config.toml").write_text(text)
        encoders = {name: encoder.state() for name, encoder in parts.space.encoders.items()}
        (draft / "encoders.json").write_text(json.dumps(encoders))
        _save(draft, _arrays(parts))

    return _published(folder, manifest, fill)


def rewrite(
    folder: Path,
    bundle: Bundle,
    arrays: Mapping[str, Mapping[str, Tensor]],
    *,
    text: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Bundle:
    """Write a version with other arrays of the components named, and all else as in ``bundle``.

    ``text`` is another configuration, ``metrics`` are added. It becomes the current version of the
    bundle at ``folder``; a failure leaves the version before it whole.
    """
    there = bundle.manifest

    def fill(draft: Path) -> None:
        for name in there.files:
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / name, draft / name)
        if text is not None:
            (draft / "config.toml").write_text(text)
        _save(draft, arrays)

    changed = there.model_copy(update={"metrics": {**there.metrics, **(metrics or {})}})
    return _published(folder, changed, fill)


def _published(folder: Path, manifest: Manifest, fill: Callable[[Path], None]) -> Bundle:
    """Fill a draft, seal it with digests, make it the current version and open it."""
    draft = None
    try:
        draft = files.draft(folder)
        fill(draft)
        digests = {
            str(p.relative_to(draft)): files.digest(p)
            for p in sorted(draft.rglob("*"))
            if p.is_file()
        }
        version = hashlib.blake2b(json.dumps(digests).encode(), digest_size=8).hexdigest()
        sealed = manifest.model_copy(update={"version": version, "files": digests})
        (draft / "manifest.toml").write_text(tomli_w.dumps(sealed.model_dump(mode="json")))
        files.publish(folder, draft, version)
    except OSError as error:
        raise BundleError(
            f"{folder}: cannot write the bundle ({error.strerror or error}); "
            "the old one is unchanged"
        ) from None
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
    return Bundle.open(folder)


def _save(draft: Path, arrays: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write the tensors of components by name."""
    for name, each in arrays.items():
        path = draft / "arrays" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_file({k: v.detach().contiguous() for k, v in each.items()}, path)


def _arrays(parts: Parts) -> dict[str, Mapping[str, Tensor]]:
    arrays = {f"channel.{name}": channel.arrays() for name, channel in parts.channels.items()}
    arrays |= {"merge": parts.merge.arrays(), "preranking": parts.preranker.state_dict()}
    arrays |= {f"ranker.{name}": model.state_dict() for name, model in parts.rankers.items()}
    arrays |= {f"calibration.{name}": c.arrays() for name, c in parts.calibrations.items()}
    return arrays | {f"blend.{name}": blend.arrays() for name, blend in parts.blends.items()}
