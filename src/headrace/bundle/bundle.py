"""Open a bundle, prove that it is whole, and put the cascade together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .. import config, files
from ..app import App
from ..calibration import Calibration
from ..errors import BundleError
from ..features import FeatureBuilder, FeatureSpace, encoders
from ..features.delivery import Delivery
from ..log import Log
from ..nn.pointwise import Pointwise
from ..schema import Schema
from ..serving.blend import Blend
from ..serving.cascade import Cascade
from ..serving.merge import Merge
from ..serving.pieces import Tier
from ..stages import Retriever
from ..value import Value
from .manifest import Manifest, difference, ids_hash, schema_hash


@runtime_checkable
class _WithVectors(Protocol):
    """A retriever that knows where items lie; re-rankers measure likeness there."""

    @property
    def item_vectors(self) -> Tensor: ...


@dataclass(frozen=True)
class Bundle:
    """One version of a trained cascade on disk."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path) -> Bundle:
        """Open the current version and verify every file's digest."""
        path = (folder / "CURRENT").resolve() if (folder / "CURRENT").exists() else folder
        manifest = Manifest.read(path / "manifest.toml")
        for name, wanted in manifest.files.items():
            if not (path / name).exists():
                raise BundleError(f"{path / name}: missing from the bundle; train again")
            if files.digest(path / name) != wanted:
                raise BundleError(f"{path / name}: altered or truncated; train again")
        bundle = cls(path, manifest)
        if schema_hash(bundle.app.schema_) != manifest.schema_hash:
            raise BundleError(
                f"{path / 'config.toml'}: its schema is not the bundle's; train again"
            )
        return bundle

    @property
    def version(self) -> str:
        """Hash of the content."""
        return self.manifest.version

    @cached_property
    def app(self) -> App:
        """The configuration that the bundle was trained with."""
        return config.load(self.path / "config.toml", App)

    def check_schema(self, schema: Schema) -> None:
        """Refuse a configuration whose features are not the bundle's, naming the difference."""
        found = difference(schema, self.app.schema_)
        if found:
            raise BundleError(f"{self.path}: a bundle of another schema: {found}; train again")

    def space(self, log: Log) -> FeatureSpace:
        """The fitted encoders over a log that continues the one trained on."""
        self._check_log(log)
        states = json.loads((self.path / "encoders.json").read_text())
        fitted = {name: encoders.restore(state) for name, state in states.items()}
        return FeatureSpace.over(self.app.schema_, fitted, log)

    def assemble(self, log: Log, delivery: Delivery | None = None) -> Cascade:
        """The cascade, ready to run on a log; ``delivery`` in place of what was counted beside it.

        Raises DataError if features are made of delivery counts and there are none.
        """
        app, space = self.app, self.space(log)
        channels: dict[str, Retriever] = {
            name: channel.build(space).restore(self.arrays(f"channel.{name}"), space)
            for name, channel in app.retrieval.items()
        }
        vectors = next(
            (c.item_vectors for c in channels.values() if isinstance(c, _WithVectors)), None
        )
        catalogue = replace(space.catalogue, vectors=vectors)
        space = space.with_catalogue(catalogue)
        preranker = app.preranking.build(space, app.samples.tasks)
        return Cascade(
            builder=FeatureBuilder(space, log, delivery),
            catalogue=catalogue,
            channels=channels,
            merge=Merge.from_arrays(self.arrays("merge")),
            preranker=self._restore(preranker, "preranking"),
            preranking_blend=Blend.from_arrays(self.arrays("blend.preranking")),
            ranker=self.ranker("ranking", space),
            calibration=self.calibration("ranking"),
            ranking_blend=Blend.from_arrays(self.arrays("blend.ranking")),
            value=Value(app.value, app.samples.tasks, tuple(catalogue.columns)),
            reranker=app.reranking.build(catalogue),
            tiers={name: self.tier(name, space) for name in app.tiers},
        )

    def tier(self, name: str, space: FeatureSpace) -> Tier:
        """One of the rankers that plans may name."""
        blend = Blend.from_arrays(self.arrays(f"blend.ranking.{name}"))
        return Tier(self.ranker(name, space), self.calibration(name), blend)

    def rankers(self) -> Mapping[str, str]:
        """Kind of every ranker in the bundle, by name; "ranking" is the one that serves."""
        every = {"ranking": self.app.ranking, **self.app.compare}
        return {name: ranker.kind for name, ranker in every.items()}

    def ranker(self, name: str, space: FeatureSpace) -> Pointwise:
        """One of the rankers, frozen for inference."""
        settings = self.app.ranking if name == "ranking" else self.app.compare[name]
        return self._restore(settings.build(space, self.app.samples.tasks), f"ranker.{name}")

    def calibration(self, name: str) -> Calibration:
        """The calibration of one of the rankers."""
        return Calibration.from_arrays(self.arrays(f"calibration.{name}"))

    def arrays(self, name: str) -> Mapping[str, Tensor]:
        """One component's tensors, mapped."""
        path = self.path / "arrays" / f"{name}.safetensors"
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise BundleError(f"{path}: cannot be read ({error}); train again") from None

    def restore(self, model: Pointwise, name: str) -> None:
        """Give a model the weights of "preranking" or "ranker.NAME", still to be trained on."""
        try:
            model.load_state_dict(dict(self.arrays(name)))
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise BundleError(f"{self.path}: {name} does not fit its settings: {reason}") from None

    def _restore(self, model: Pointwise, name: str) -> Pointwise:
        self.restore(model, name)
        model.freeze()
        return model

    def _check_log(self, log: Log) -> None:
        """A log may have grown since, but rows must stand for the same users and items."""
        there = self.manifest
        for key, ids, count, wanted in (
            ("items", log.items["item"], there.num_items, there.items_hash),
            ("users", log.users["user"], there.num_users, there.users_hash),
        ):
            if len(ids) < count or ids_hash(ids[:count]) != wanted:
                raise BundleError(
                    f"{self.path}: trained on a log with other {key} than {log.path}; train again"
                )
        if log.manifest.event_types[: len(there.types)] != there.types:
            raise BundleError(
                f"{self.path}: trained on event types {', '.join(there.types)}, the log at "
                f"{log.path} has {', '.join(log.manifest.event_types)}; train again"
            )
