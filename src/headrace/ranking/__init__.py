"""Score a few hundred candidates as well as the budget allows. One model a file."""

from ._base import Ranker

__all__ = ["Ranker"]
