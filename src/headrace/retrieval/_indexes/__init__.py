"""Search by inner product over item vectors. One way a file."""

from typing import Annotated

from pydantic import Field

from ._base import Index
from .exact import Exact
from .fast_scan import FastScan
from .hnsw import Hnsw

IndexConfig = Annotated[Exact.Config | FastScan.Config | Hnsw.Config, Field(discriminator="kind")]

__all__ = ["Exact", "FastScan", "Hnsw", "Index", "IndexConfig"]
