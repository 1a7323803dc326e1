"""What is asked for where a plan finds too little: first what costs least, then everything."""

import torch

from headrace.data import Candidates, Ragged
from headrace.serving.widening import TIMES, Widening
from headrace.stages import Plan, Trace

FIXED = {"own": 50, "dear": 40, "cheap": 30, "never": 0, "retrieval": 20}
CHANNELS = ("own", "dear", "cheap", "never")


def trace(spent_us, **found):
    """One pass; channels that found nothing were off, or may as well have been."""
    each = {name: Candidates(Ragged.of([torch.arange(found.get(name, 9))])) for name in CHANNELS}
    return Trace(Plan.constant(FIXED, 1), spent_us, each, {})


def widening(*traces):
    made = Widening(CHANNELS, FIXED)
    for seen in traces:
        made.observe(seen)
    return made


def plan(**quota_B):
    size = len(quota_B["own"])
    quota = {"own": [0] * size, "dear": [0] * size, "cheap": [0] * size, "never": [0] * size}
    return Plan(
        {n: torch.tensor(q) for n, q in {**quota, "retrieval": [9] * size, **quota_B}.items()}
    )


def quotas(wide, *names):
    return {name: wide.quota[name].tolist() for name in names or CHANNELS}


def test_the_cheapest_that_was_left_out_joins_first():
    wider = widening(trace({"own": 90, "dear": 3000, "cheap": 200, "never": 1}))
    wide = wider(plan(own=[10, 10, 10], cheap=[0, 5, 5], dear=[0, 0, 7]), TIMES[0])
    assert quotas(wide) == {
        "own": [40, 40, 40],
        "cheap": [30, 20, 20],
        "dear": [0, 40, 28],
        "never": [0, 0, 0],  # not in the fixed plan
    }
    assert wide.quota["retrieval"].tolist() == [9, 9, 9]


def test_all_join_at_last():
    wider = widening(trace({"own": 90, "dear": 3000, "cheap": 200, "never": 1}))
    wide = wider(wider(plan(own=[10]), TIMES[0]), TIMES[1])
    assert quotas(wide) == {"own": [640], "cheap": [480], "dear": [40], "never": [0]}


def test_what_a_channel_took_when_it_was_off_does_not_count():
    wider = widening(
        trace({"own": 90, "dear": 3000, "cheap": 900, "never": 1}),
        trace({"own": 90, "dear": 5, "cheap": 200, "never": 1}, dear=0),
        trace({"own": 90, "dear": 9000, "cheap": 7000, "never": 1}),  # a stall
    )
    assert quotas(wider(plan(own=[10]), TIMES[0]), "dear", "cheap") == {"dear": [0], "cheap": [30]}


def test_a_quick_channel_that_finds_little_does_not_fill_a_slate():
    wider = widening(trace({"own": 90, "dear": 300, "cheap": 100, "never": 1}, dear=40, cheap=2))
    assert quotas(wider(plan(own=[10]), TIMES[0]), "dear", "cheap") == {"dear": [40], "cheap": [0]}


def test_a_channel_that_joins_searches_in_full():
    effort = {"effort.dear": [25, 0, 0], "effort.own": [100, 100, 100]}
    wide = widening()(plan(own=[10, 10, 0], dear=[10, 0, 0], **effort), TIMES[0])
    assert quotas(wide, "dear", "effort.dear", "effort.own") == {
        "dear": [40, 40, 0],  # nothing is known of costs: in the order of the cascade
        "effort.dear": [25, 100, 0],
        "effort.own": [100, 100, 100],
    }


def test_notes_are_kept():
    first = plan(own=[10])
    note = {"mine": torch.tensor([3])}
    assert widening()(Plan(first.quota, note), TIMES[0]).note == note
