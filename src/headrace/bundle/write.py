"""Write a trained cascade."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
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
    blends: Mapping[str, Blend]  # "preranking" and "ranking"


def revise_bundle(
    folder: Path,
    bundle: Bundle,
    text: str,
    arrays: Mapping[str, Mapping[str, Tensor]],
    metrics: Mapping[str, float],
) -> Bundle:
    """Publish a bundle with another configuration, some arrays and metrics changed, the rest kept.

    A failure leaves the version before it whole.
    """
    draft = None
    try:
        draft = files.draft(folder)
        shutil.copytree(bundle.path, draft, dirs_exist_ok=True)
        (draft / "manifest.toml").unlink()
        (draft / "config.toml").write_text(text)
        _save(draft, arrays)
        there = bundle.manifest
        return _publish(
            folder, draft, there.model_copy(update={"metrics": {**there.metrics, **metrics}})
        )
    except OSError as error:
        raise _unwritten(folder, error) from None
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


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
    draft = None
    try:
        draft = files.draft(folder)
        (draft / "config.toml").write_text(text)
        encoders = {name: encoder.state() for name, encoder in parts.space.encoders.items()}
        (draft / "encoders.json").write_text(json.dumps(encoders))
        _save(draft, _arrays(parts))
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
        return _publish(folder, draft, manifest)
    except OSError as error:
        raise _unwritten(folder, error) from None
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def _save(draft: Path, arrays: Mapping[str, Mapping[str, Tensor]]) -> None:
    for name, each in arrays.items():
        path = draft / "arrays" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_file({k: v.detach().contiguous() for k, v in each.items()}, path)


def _publish(folder: Path, draft: Path, manifest: Manifest) -> Bundle:
    """Seal a draft with the digests of its files and make it current."""
    digests = {
        str(p.relative_to(draft)): files.digest(p) for p in sorted(draft.rglob("*")) if p.is_file()
    }
    version = hashlib.blake2b(json.dumps(digests).encode(), digest_size=8).hexdigest()
    sealed = manifest.model_copy(update={"files": digests, "version": version})
    (draft / "manifest.toml").write_text(tomli_w.dumps(sealed.model_dump(mode="json")))
    files.publish(folder, draft, version)
    return Bundle.open(folder)


def _unwritten(folder: Path, error: OSError) -> BundleError:
    return BundleError(
        f"{folder}: cannot write the bundle ({error.strerror or error}); the old one is unchanged"
    )


def _arrays(parts: Parts) -> dict[str, Mapping[str, Tensor]]:
    arrays = {f"channel.{name}": channel.arrays() for name, channel in parts.channels.items()}
    arrays |= {"merge": parts.merge.arrays(), "preranking": parts.preranker.state_dict()}
    arrays |= {f"ranker.{name}": model.state_dict() for name, model in parts.rankers.items()}
    arrays |= {f"calibration.{name}": c.arrays() for name, c in parts.calibrations.items()}
    return arrays | {f"blend.{name}": blend.arrays() for name, blend in parts.blends.items()}
