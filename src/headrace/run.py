"""A run directory: one application's log, models, bundle and reports, and how to open them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from . import config
from .app import App
from .behavior import EventStore, MappedLog
from .bundle import Bundle
from .errors import ConfigError
from .features import FeatureBuilder, FeatureSpace
from .log import Log
from .log.ingest import ingest
from .samples import Samples
from .samples.split import Split


@dataclass(frozen=True)
class Run:
    """Where everything of one application lives."""

    folder: Path
    app: App
    text: str  # the configuration file

    @classmethod
    def of(cls, path: Path) -> Run:
        """The run of a configuration file."""
        app = config.load(path, App)
        return cls(Path(app.run or f"runs/{app.name}"), app, path.read_text())

    @classmethod
    def open(cls, path: Path) -> Run:
        """A trained run, by its directory or by its configuration file."""
        if path.is_file():
            return cls.of(path)
        if not path.exists():
            raise ConfigError(f"{path}: no such run; give its directory or its TOML file")
        bundle = Bundle.open(path / "bundle")
        return cls(path, bundle.app, (bundle.path / "config.toml").read_text())

    @property
    def log_path(self) -> Path:
        """The log's directory."""
        return self.folder / "log"

    @property
    def bundle_path(self) -> Path:
        """The bundle's directory."""
        return self.folder / "bundle"

    def ingest(self, *, append: bool = False, force: bool = False) -> tuple[Log, bool]:
        """Bring the log up to date with the configured source; also tell whether it changed."""
        return ingest(self.app.source.build(), self.log_path, append=append, force=force)

    def log(self) -> Log:
        """The log's current version."""
        return Log.open(self.log_path)

    def store(self, *, writable: bool = False) -> EventStore:
        """The store of events that came in since the log; to be closed."""
        folder, keep = self.folder / "events", self.app.schema_.key_events
        return self.app.serving.store.build(self.log(), folder, keep, writable=writable)

    def samples(self, space: FeatureSpace | None = None) -> Samples:
        """Samples of the log, under a fitted feature space or one fitted now."""
        torch.set_num_threads(self.app.threads)
        log = self.log()
        split = Split.of(self.app.samples, log)
        space = space or FeatureSpace.fit(self.app.schema_, log, split.valid_ms)
        builder = FeatureBuilder(space, log)
        return Samples(self.app.samples, log, split, builder, MappedLog(log), self.app.seed)
