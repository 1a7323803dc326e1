"""How hard a foil is to be searched, by measurement: what efforts cost and what they find.

Efforts are tried on requests of the validation period against the exact answer under the same
scorer. An effort that scores more than another and finds less is of no use; the others make up the
front, and the cheapest that finds enough is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from ..data import Ragged, Requests
from ..errors import DataError
from ..ops.graph_search import Effort
from ..pipeline.learning import some
from ..retrieval.foil import FoilRetriever, candidates
from ..samples import Samples

WIDTHS = (25, 35, 50, 70, 100, 140, 200, 280, 400, 560, 800, 1_600, 3_200, 6_400)
HOPS = (1, 2, 3, 4, 6, 8)
CHUNK = 64  # requests searched at a time


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one effort."""

    links: int
    """Of the coarser levels of the graph; on the finest there are twice as many."""
    effort: Effort
    coverage: float
    """Share of the exact best that was found."""
    scored_share: float
    """Of the items, a request."""


@dataclass(frozen=True)
class Tuned:
    """What was tried, and what is best."""

    trials: Sequence[Trial]
    chosen: Trial
    retriever: FoilRetriever
    """With the chosen effort and links."""

    @property
    def front(self) -> list[Trial]:
        """The trials that no other one beats in both respects, the cheapest first."""
        front: list[Trial] = []
        for trial in sorted(self.trials, key=lambda t: (t.scored_share, -t.coverage)):
            if not front or trial.coverage > front[-1].coverage:
                front.append(trial)
        return front


def validation(samples: Samples, most: int) -> Requests:
    """Users' first requests of the validation period, ``most`` of them, as retrieval is asked.

    Raises DataError if there are none.
    """
    rows = some(samples.first_requests("valid")[0], most, samples.seed)
    if not len(rows):
        raise DataError("the validation period has no requests; give samples.valid_days more days")
    requests = samples.features(rows)
    if samples.config.new_to_user:
        requests = replace(requests, exclude=samples.seen(rows))
    return requests


def tune(
    retriever: FoilRetriever,
    requests: Requests,
    recall: float,
    most: int,
    links: Sequence[int] = (),
) -> Tuned:
    """Find the cheapest effort that covers ``recall`` of the exact best ``most`` items.

    ``links`` makes graphs of so many links to choose from; by default there is the one that is.
    Raises DataError where no effort covers enough.
    """
    exact = [candidates(retriever.exhaustive(asked, most)).item_id for asked in _chunks(requests)]
    made = [retriever.relinked(number) for number in links] or [retriever]
    trials: list[tuple[Trial, FoilRetriever]] = []
    for each in made:
        for hops in HOPS:
            for trial in _ladder(each, requests, exact, most, hops):
                trials.append((trial, each))
                if trial.coverage >= recall:
                    break
    enough = [pair for pair in trials if pair[0].coverage >= recall]
    if not enough:
        best = max((trial for trial, _ in trials), key=lambda t: t.coverage)
        raise DataError(
            f"no effort covers {recall:g} of the exact best {most}; the best tried covers "
            f"{best.coverage:.4f}, scoring {best.scored_share:.1%}; ask for less, or give --links"
        )
    chosen, winner = min(enough, key=lambda pair: (pair[0].scored_share, -pair[0].coverage))
    return Tuned([trial for trial, _ in trials], chosen, winner.with_effort(chosen.effort))


def _ladder(
    retriever: FoilRetriever, requests: Requests, exact: Sequence[Ragged], most: int, hops: int
) -> Iterator[Trial]:
    """Ever wider searches of so many hops; the rest of the effort stays as it is."""
    num_items = len(retriever.catalogue.available_I)
    for width in WIDTHS:
        effort = replace(
            retriever.effort, width=(width, max(width // 2, WIDTHS[0])), hops=(hops, 1)
        )
        each, hits, scored = retriever.with_effort(effort), 0, 0
        for asked, best in zip(_chunks(requests), exact, strict=True):
            found = each.search(asked, most)
            hits += int(best.within(candidates(found).item_id).sum())
            scored += int(found.num_scored.sum())
        wanted = sum(len(best.values) for best in exact)
        share = scored / len(requests) / num_items
        yield Trial(retriever.links, effort, hits / max(wanted, 1), share)
        if width >= num_items:
            return


def _chunks(requests: Requests) -> Iterator[Requests]:
    for low in range(0, len(requests), CHUNK):
        yield requests.take(torch.arange(low, min(low + CHUNK, len(requests))))
