"""A trained cascade as an immutable directory, and the cascade that it makes."""

from .bundle import Bundle
from .write import Parts, rewrite, write_bundle

__all__ = ["Bundle", "Parts", "rewrite", "write_bundle"]
