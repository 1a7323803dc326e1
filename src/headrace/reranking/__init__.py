"""Choose and order the final slate as a whole. One policy a file."""

from ._base import Catalogue

__all__ = ["Catalogue"]
