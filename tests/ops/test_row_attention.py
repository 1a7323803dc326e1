import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace.nn.search import attend_rows
from headrace.ops.row_attention import attend


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=8),
    st.integers(1, 5),
    st.integers(0, 1000),
)
def test_equals_the_plain_softmax(rows, width, seed):
    rng = np.random.default_rng(seed)
    start_N = np.array([a for a, _ in rows], np.int64)
    length_N = np.array([n for _, n in rows], np.int64)
    query_ND, key_ED, value_EV = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((len(rows), 3), (26, 3), (26, width))
    )
    bias_E = rng.standard_normal(26).astype(np.float32) * 10
    nothing_X = np.arange(width + 1, dtype=np.float32)
    said_NX = attend(query_ND, key_ED, bias_E, value_EV, start_N, length_N, nothing_X)
    assert said_NX.shape == (len(rows), width + 1)
    for n, (start, length) in enumerate(rows):
        if not length:
            assert said_NX[n].tolist() == nothing_X.tolist()
            continue
        logit = key_ED[start : start + length] @ query_ND[n] + bias_E[start : start + length]
        want = attend_rows(
            torch.from_numpy(logit).unsqueeze(1),
            torch.from_numpy(value_EV[start : start + length]),
            torch.tensor([0, length]),
        )[0]
        assert said_NX[n] == pytest.approx(want.numpy(), rel=1e-4, abs=1e-4)
