import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace.data import Ragged
from headrace.nn.age import NUM_AGES, age_ids, buckets

MINUTE_MS = 60_000


@given(st.integers(-5, 2 * 10**12))
def test_a_bucket_is_a_doubling(age_ms):
    bucket = int(buckets(torch.tensor(age_ms)))
    minutes_and_one = max(age_ms, 0) / MINUTE_MS + 1
    assert bucket == min(int(minutes_and_one).bit_length() - 1, NUM_AGES - 1)


def test_ages_of_rows_count_from_their_own_moment():
    times = Ragged.of([torch.tensor([0, 5 * MINUTE_MS]), torch.tensor([0])])
    ids = age_ids(times, torch.tensor([5 * MINUTE_MS, MINUTE_MS]))
    assert ids.tolist() == [2, 0, 1]
