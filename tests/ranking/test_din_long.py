"""DIN over a history of 1,000 events: the baseline whose cost grows linearly, and no faster."""

import torch

from headrace.data import Ragged
from headrace.nn.target_attention import TargetAttention
from headrace.ops.lanes import LANES


def kept_bytes(candidates: int, length: int) -> int:
    """What the layer keeps for backward, for two requests."""
    torch.manual_seed(0)
    model = TargetAttention(8, (16, 4), side_dim=2)
    events = Ragged.sized(torch.zeros(2 * length), torch.tensor([length, length]))
    items = Ragged.sized(torch.zeros(2 * candidates), torch.tensor([candidates, candidates]))
    target = torch.randn(2 * candidates, 8, requires_grad=True)
    event = torch.randn(2 * length, 8, requires_grad=True)
    kept: dict[int, int] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept[x.data_ptr()] = x.numel() * x.element_size()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = model(target, items, event, torch.randn(2 * length, 2), events)
    out.sum().backward()
    assert event.grad is not None
    assert bool(event.grad.isfinite().all())
    return sum(kept.values())


def test_what_is_kept_grows_with_events_and_not_with_pairs():
    short, long = kept_bytes(1, 100), kept_bytes(1, 1000)
    assert (
        long - short == 4 * 2 * 900 * LANES
    )  # the events themselves, with their sides, as wide as a tile
    per_candidate = (kept_bytes(20, 1000) - long) / (2 * 19)
    assert per_candidate < 4 * 1000 / 8  # far below one number an event
