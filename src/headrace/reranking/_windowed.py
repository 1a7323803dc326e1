"""What re-rankers that compare candidates with the items chosen have in common."""

from __future__ import annotations

from pydantic import Field

from ._base import Capped, Catalogue, Count
from .top import Top


class Windowed(Capped):
    """What they can be told."""

    window: Count | None = None
    """How many of the items chosen last a candidate is compared with. Default: all."""
    worth: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """What this makes of a slate that its items are not worth one by one, as a share of their
    value, by an experiment of yours: no replay can tell. Where it is said, plans may skip this
    (``headrace allocate``). Default: nobody knows, so none does."""


class WindowedReranker:
    """Abstract. A re-ranker that plans may skip, see ``stages.Plainly``."""

    def __init__(self, config: Windowed, catalogue: Catalogue) -> None:
        self.config = config
        self._catalogue = catalogue
        self.reads_sequences = ()

    @property
    def worth(self) -> float | None:
        """What it adds to a slate, as a share of its value."""
        return self.config.worth

    def plain(self) -> Top:
        """The best by value, no more of a category than allowed."""
        cap = Top.Config(max_per_category=self.config.max_per_category)
        return cap.build(self._catalogue)
