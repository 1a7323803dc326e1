"""What all pre-rankers are."""

from __future__ import annotations

from ..config import Config
from ..features import FeatureSpace
from ..nn.pointwise import Pointwise


class PreRanker(Pointwise):
    """Abstract. A final pre-ranker defines its fields, ``__init__`` and ``forward``."""


class PreRankerConfig(Config):
    """A pre-ranker's settings; every pre-ranker's ``Config`` extends it."""

    def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> PreRanker:
        """Make an untrained model over a feature space."""
        raise NotImplementedError
