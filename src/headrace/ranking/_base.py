"""What all rankers are."""

from __future__ import annotations

from ..config import Config
from ..features import FeatureSpace
from ..nn.pointwise import Pointwise


class Ranker(Pointwise):
    """Abstract. A final ranker defines its fields, ``__init__`` and ``forward``."""


class RankerConfig(Config):
    """A ranker's settings; every ranker's ``Config`` extends it."""

    def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> Ranker:
        """Make an untrained model over a feature space."""
        raise NotImplementedError
