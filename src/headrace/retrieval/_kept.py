"""What a foil keeps in a bundle: weights, item parts, graph and effort, of one version.

I  items    V  width of an item's vector    X  width of an item's row
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import BundleError
from ..features import FeatureSpace
from ..ops.graph_search import Effort, Rule
from ._graph import ItemGraph
from ._searched import DTYPES, Precision, Searchable, item_part
from ._split import SplitModule

NET, GRAPH, EFFORT = "net.", "graph.", "effort."  # prefixes among the arrays
SAMPLE, CLOSE = 64, 1e-4  # items whose stored vectors are compared with what the weights make
RULES: tuple[Rule, ...] = ("paper", "served")


def kept(scorer: SplitModule[Any], parts: Searchable, effort: Effort) -> Mapping[str, Tensor]:
    """All of it as arrays."""
    rule = RULES.index(effort.rule)
    return {
        **{f"{NET}{name}": weight for name, weight in scorer.state_dict().items()},
        "vectors": parts.vector_IV,
        "rows": parts.row_IX,
        "popularity": parts.bonus_I,
        "heights": parts.height_I,
        **{f"{GRAPH}{name}": array for name, array in parts.graph.arrays().items()},
        f"{EFFORT}width": torch.tensor(effort.width),
        f"{EFFORT}hops": torch.tensor(effort.hops),
        f"{EFFORT}rest": torch.tensor([rule, effort.stop, effort.stretch], dtype=torch.float64),
    }


def taken_up(
    arrays: Mapping[str, Tensor],
    scorer: SplitModule[Any],
    graph: ItemGraph.Config,
    precision: Precision,
    space: FeatureSpace,
) -> tuple[Searchable, Effort]:
    """The catalogue, with items linked in that came into the log since, and the effort.

    Gives the scorer its weights. Raises BundleError where the parts are not of one version.
    """
    try:
        scorer.load_state_dict(_under(NET, arrays))
        effort = _effort(_under(EFFORT, arrays))
        names = "vectors", "rows", "popularity", "heights"
        vector_IV, row_IX, bonus_I, height_I = (arrays[name] for name in names)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise BundleError(f"foil: weights do not fit the settings: {reason}") from None
    except KeyError as error:
        raise BundleError(f"foil: the bundle lacks {error}; train again") from None
    scorer.freeze()
    _check(scorer, precision, vector_IV, row_IX, (bonus_I, height_I), space)
    linked = graph.restore(_under(GRAPH, arrays), (vector_IV, height_I))
    available_I = space.catalogue.available
    known_I = available_I[: len(vector_IV)]
    known = Searchable(scorer, linked, vector_IV, row_IX, bonus_I, height_I, known_I)
    return known.grown(available_I), effort


def _check(
    scorer: SplitModule[Any],
    precision: Precision,
    vector_IV: Tensor,
    row_IX: Tensor,
    column_I: tuple[Tensor, ...],
    space: FeatureSpace,
) -> None:
    """Whether item parts are whole, and what these weights make of some of the items."""
    size = len(vector_IV)
    sizes = [len(x) for x in (row_IX, *column_I)]
    if size > len(space.catalogue) or any(other != size for other in sizes):
        raise BundleError(
            f"foil: vectors of {size} items, rows, popularity and heights of "
            f"{', '.join(map(str, sizes))}, a catalogue of {len(space.catalogue)}; train again"
        )
    item_M = torch.linspace(0, size - 1, min(size, SAMPLE)).long()
    with torch.inference_mode():
        vector_MV, row_MX = item_part(scorer, item_M, DTYPES[precision])
    for stored, made in ((vector_IV, vector_MV), (row_IX, row_MX)):
        same = stored.dtype == made.dtype and stored.shape[1:] == made.shape[1:]
        near = CLOSE if stored.dtype == torch.float32 else 0.02
        if not same or not torch.allclose(stored[item_M].float(), made.float(), near, near):
            raise BundleError(
                "foil: item vectors or rows are not those of the weights; they are of "
                "different versions or settings; train again"
            )


def _under(prefix: str, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n[len(prefix) :]: a for n, a in arrays.items() if n.startswith(prefix)}


def _effort(arrays: Mapping[str, Tensor]) -> Effort:
    rule, stop, stretch = arrays["rest"].tolist()
    width, hops = (tuple(arrays[name].tolist()) for name in ("width", "hops"))
    return Effort(width, hops, RULES[int(rule)], stop, stretch)
