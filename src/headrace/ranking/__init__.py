"""Score a few hundred candidates as well as the budget allows. One model a file."""

from ._base import Ranker, RankerConfig

__all__ = ["Ranker", "RankerConfig"]
