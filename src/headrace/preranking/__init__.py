"""Cut what retrieval found to what the ranker can afford. One model a file."""

from ._base import PreRanker, PreRankerConfig

__all__ = ["PreRanker", "PreRankerConfig"]
