"""DIEN's two recurrent layers: the fused scan against a loop over time in PyTorch.

The loop is the usual one: a row a sample, padded, input and state projected step by step, states of
padded steps masked. The fused scan reads ragged rows, runs the first layer once a request and
projects its states once for all candidates. Equal weights, equal results (checked), one thread.
``train`` is forward and backward of both layers, ``serve`` is forward alone for one request.

    python -m benchmarks.scan [--length 100] [--width 32] [--repeats 5]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import _common
from headrace.data import Ragged
from headrace.nn.recurrent import GRU
from headrace.ops import ragged

GATE = 5.0
SHAPES = {  # requests, candidates a request, share of full histories
    "train, full histories": (64, 10, 1.0),
    "train, mean half full": (64, 10, 0.5),
    "serve, full history": (1, 200, 1.0),
}


def cell(layer: GRU, x_ND: Tensor, h_NH: Tensor, a_N1: Tensor) -> Tensor:
    """One step of an AUGRU as public code writes it; attention of 1 makes it a GRU."""
    gate_NG, state_NG = layer.project(x_ND) + layer.bias, h_NH @ layer.weight
    (iu, ir, ih), (qu, qr, qh) = gate_NG.chunk(3, 1), state_NG.chunk(3, 1)
    u_NH, r_NH = a_N1 * torch.sigmoid(iu + qu), torch.sigmoid(ir + qr)
    return (1 - u_NH) * h_NH + u_NH * torch.tanh(ih + r_NH * qh)


def loop(layer: GRU, x_NLD: Tensor, attention_NL: Tensor, mask_NL: Tensor) -> Tensor:
    """The state after every step, ``(N, L, H)``, by a loop over time."""
    h_NH = x_NLD.new_zeros(len(x_NLD), len(layer.weight))
    states: list[Tensor] = []
    for t in range(x_NLD.shape[1]):
        new_NH = cell(layer, x_NLD[:, t], h_NH, attention_NL[:, t : t + 1])
        h_NH = torch.where(mask_NL[:, t : t + 1], new_NH, h_NH)
        states.append(h_NH)
    return torch.stack(states, dim=1)


class Case:
    """Histories, candidates and both layers."""

    def __init__(self, requests: int, candidates: int, full: float, length: int, width: int):
        g = torch.Generator().manual_seed(1)
        lengths_B = torch.full((requests,), length)
        if full < 1:
            lengths_B = torch.randint(1, length + 1, (requests,), generator=g)
            lengths_B[0] = length
        self.events = Ragged.sized(torch.zeros(0), lengths_B)
        size = int(self.events.offsets[-1])
        self.event_ED = torch.randn(size, width, generator=g)
        self.count_B = torch.full((requests,), candidates)
        self.attention_NL = torch.rand(requests * candidates, length, generator=g)
        torch.manual_seed(1)
        self.interest, self.evolution = GRU(width, width), GRU(width, width)

    def fused(self) -> Tensor:  # (N, H)
        """As ``ranking/dien.py`` does it."""
        state_EH = self.interest(self.event_ED, self.events.offsets)
        start_N = self.events.offsets[:-1].repeat_interleave(self.count_B)
        length_N = self.events.lengths.repeat_interleave(self.count_B)
        return self.evolution.led("augru", state_EH, self.attention_NL, start_N, length_N)

    def plain(self) -> Tensor:  # (N, H)
        """A row a sample."""
        event_BLD, mask_BL = ragged.pad(self.event_ED, self.events.offsets)
        event_NLD = event_BLD.repeat_interleave(self.count_B, 0)
        mask_NL = mask_BL.repeat_interleave(self.count_B, 0)
        state_NLH = loop(self.interest, event_NLD, torch.ones_like(self.attention_NL), mask_NL)
        return loop(self.evolution, state_NLH, self.attention_NL, mask_NL)[:, -1]

    def hoisted(self) -> Tensor:  # (N, H)
        """The same loop, but the first layer once a request."""
        event_BLD, mask_BL = ragged.pad(self.event_ED, self.events.offsets)
        ones_BL = torch.ones(mask_BL.shape)
        state_BLH = loop(self.interest, event_BLD, ones_BL, mask_BL)
        state_NLH = state_BLH.repeat_interleave(self.count_B, 0)
        mask_NL = mask_BL.repeat_interleave(self.count_B, 0)
        return loop(self.evolution, state_NLH, self.attention_NL, mask_NL)[:, -1]


def measure(case: Case, repeats: int, *, train: bool) -> dict[str, float]:
    """Time of each way, and how many times as fast as each loop the fused one is."""
    ways = {"fused": case.fused, "loop": case.plain, "loop_once_a_request": case.hoisted}
    with torch.no_grad():
        expected = case.plain()
        for way in ways.values():
            torch.testing.assert_close(way(), expected, atol=1e-4, rtol=1e-3)

    def run(way: Callable[[], Tensor]) -> None:
        if train:
            way().sum().backward()
        else:
            with torch.inference_mode():
                way()

    row = {
        f"{name}_ms": min(_common.times_ms(lambda way=way: run(way), repeats))
        for name, way in ways.items()
    }
    row["ratio"] = row["loop_ms"] / row["fused_ms"]
    row["ratio_once_a_request"] = row["loop_once_a_request_ms"] / row["fused_ms"]
    return row


def main() -> None:
    """Print a line a shape and, last, one JSON line."""
    options = _common.parser(__doc__)
    options.add_argument("--length", type=int, default=100)
    options.add_argument("--width", type=int, default=32)
    options.add_argument("--repeats", type=int, default=5)
    given = options.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    for name, shape in SHAPES.items():
        case = Case(*shape, given.length, given.width)
        rows[name] = measure(case, given.repeats, train=name.startswith("train"))
        shown = ", ".join(f"{key} {value:.1f}" for key, value in rows[name].items())
        print(f"{name}: {shown}", flush=True)
    lowest = min(row["ratio"] for row in rows.values())
    figures = {"length": given.length, "width": given.width, "shapes": rows, "ratio": lowest}
    _common.finish("scan", {**figures, "passed": lowest >= GATE}, save=given.save)


if __name__ == "__main__":
    main()
