"""The data plane: run the cascade, over HTTP or offline, by the same code."""

from .cascade import Cascade

__all__ = ["Cascade"]
