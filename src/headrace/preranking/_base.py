"""What all pre-rankers are."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import Config
from ..errors import ConfigError
from ..features import FeatureSpace
from ..nn.pointwise import Pointwise
from ..training.distill import Distilled


class PreRanker(Pointwise):
    """Abstract. A final pre-ranker defines its fields, ``__init__`` and ``forward``."""


class PreRankerConfig(Config):
    """A pre-ranker's settings; every pre-ranker's ``Config`` extends it."""

    distill: Distilled.Config | None = None
    """Learn from a teacher too, see docs/methods/distillation.md; by default from labels alone."""

    def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> PreRanker:
        """Make an untrained model over a feature space."""
        raise NotImplementedError

    def informed(self, only: Sequence[str]) -> PreRankerConfig:
        """A net like it for a teacher: over everything there is, or over the crosses ``only``.

        Raises ConfigError for kinds that do not say what theirs would be.
        """
        del only
        raise ConfigError(
            'preranking.distill.scheme: no teacher like this pre-ranker is known; use "md" or '
            '"pfd_md", whose teacher is the ranker'
        )
