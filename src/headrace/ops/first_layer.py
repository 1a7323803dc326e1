"""A first layer over groups of inputs, added up from parts that were made ahead.

B  requests    N  candidates, cut by offsets (B+1,)    I  items    H  units
D  inputs of a request, the last M of them the mean vector of E events    G  groups of them
F  features of (request, item)    R  rows of all their tables
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .numeric import entry

Array = NDArray[Any]


class Layer(NamedTuple):
    """What turns a request's inputs into its part of the layer, float32 but for the places."""

    weight_DH: Array
    bias_H: Array
    start_G: Array  # (G + 1,) int64, where groups begin
    scale_D: Array  # a group is scaled by the sigmoid of its product with this ...
    level_G: Array  # ... plus this; infinite where it is not scaled
    squash: bool  # whether inputs pass through linear_log


@entry
def of_requests(
    layer: Layer, input_BK: Array, offsets: Array, item_E: Array, item_IM: Array
) -> Array:  # (B, H)
    """The part of each request, the layer's bias included.

    ``input_BK`` are its first inputs; the others are the mean of the rows ``item_IM`` of its events
    ``item_E``, which ``offsets`` cut: zeros where there are none.
    """
    size, given = input_BK.shape
    width, units = layer.weight_DH.shape
    out_BH = np.empty((size, units), np.float32)
    x_D = np.empty(width, np.float32)
    for b in range(size):
        x_D[:given] = input_BK[b]
        x_D[given:] = 0
        if width > given and offsets[b + 1] > offsets[b]:
            for e in range(offsets[b], offsets[b + 1]):
                i = item_E[e]
                if not 0 <= i < len(item_IM):
                    raise IndexError("an event of an item beyond the catalogue")
                for m in range(width - given):
                    x_D[given + m] += item_IM[i, m]
            for m in range(width - given):
                x_D[given + m] /= np.float32(offsets[b + 1] - offsets[b])
        if layer.squash:
            for d in range(width):
                beyond = abs(x_D[d])
                if beyond > 1:
                    x_D[d] = math.copysign(np.float32(math.log(beyond)) + np.float32(1), x_D[d])
        out_BH[b] = layer.bias_H
        for g in range(len(layer.level_G)):
            logit = layer.level_G[g]
            for d in range(layer.start_G[g], layer.start_G[g + 1]):
                logit += x_D[d] * layer.scale_D[d]
            scale = np.float32(1) / (np.float32(1) + np.float32(math.exp(-logit)))
            for d in range(layer.start_G[g], layer.start_G[g + 1]):
                value = scale * x_D[d]
                for h in range(units):
                    out_BH[b, h] += value * layer.weight_DH[d, h]
    return out_BH


@entry
def of_candidates(
    request_BH: Array,
    offsets: Array,
    item_IH: Array,
    item_N: Array,
    cross_RH: Array,
    start_F: Array,
    id_FN: Array,
    rectify: bool,
) -> Array:  # (N, H)
    """``request[b] + item[item_n] + Σ_f cross[start_f + id_fn]``, and its positive part if asked.

    Four rows are added at a time: one look at the sum for four at them.
    """
    units, features = request_BH.shape[1], len(start_F)
    out_NH = np.empty((len(item_N), units), np.float32)
    for b in range(len(offsets) - 1):
        for n in range(offsets[b], offsets[b + 1]):
            i = item_N[n]
            if not 0 <= i < len(item_IH):
                raise IndexError("a candidate beyond the catalogue")
            for h in range(units):
                out_NH[n, h] = request_BH[b, h] + item_IH[i, h]
            for z in range(features // 4):
                f = 4 * z
                r0, r1 = start_F[f] + id_FN[f, n], start_F[f + 1] + id_FN[f + 1, n]
                r2, r3 = start_F[f + 2] + id_FN[f + 2, n], start_F[f + 3] + id_FN[f + 3, n]
                for h in range(units):
                    out_NH[n, h] += (
                        cross_RH[r0, h] + cross_RH[r1, h] + cross_RH[r2, h] + cross_RH[r3, h]
                    )
            for f in range(4 * (features // 4), features):
                r0 = start_F[f] + id_FN[f, n]
                for h in range(units):
                    out_NH[n, h] += cross_RH[r0, h]
            if rectify:
                for h in range(units):
                    out_NH[n, h] = np.float32(0) if out_NH[n, h] < 0 else out_NH[n, h]
    return out_NH
