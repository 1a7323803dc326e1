"""The step test's figures on courses made by hand, and its client against a server of stubs."""

import asyncio

import numpy as np
import pytest

from benchmarks import step_load
from benchmarks.step_load import Course
from tests.serving import shop
from tests.serving.conftest import ready, served

SECONDS = [10.0, 40.0, 10.0]


def course(slow_until, errors_until=0.0):
    """10 answers a second; slow from the step until a moment, errors likewise."""
    due = np.arange(0, 60, 0.1)
    slow = (due >= 10) & (due < slow_until)
    wrong = (due >= 10) & (due < errors_until)
    looks = [(float(s), 0.5 * s, 1.0 if s < 10 else 0.4) for s in range(60)]
    value = np.where(wrong, np.nan, 2.0)
    return Course(due.tolist(), np.where(slow, 400.0, 10.0).tolist(), value.tolist(), looks)


def test_recovery():
    told = step_load.figures(course(19.5), SECONDS, target_ms=50)
    assert told["recovery_s"] == 10 and told["error_rate_after"] == 0
    assert told["p99_ms_before"] == 10 and told["p99_ms_during"] == 400
    assert told["value_per_cpu_s"] == pytest.approx(40 * 10 * 2 / 20, rel=1e-3)
    assert told["swing"] == 0


def test_never_or_at_once():
    assert step_load.figures(course(50), SECONDS, target_ms=50)["recovery_s"] is None
    assert step_load.figures(course(0), SECONDS, target_ms=50)["recovery_s"] == 0


def test_errors_bring_nothing():
    told = step_load.figures(course(0, errors_until=50), SECONDS, target_ms=50)
    assert (told["error_rate_after"], told["value_per_cpu_s"], told["recovery_s"]) == (1, 0, None)


def test_a_course_and_its_plot(log, tmp_path):
    calls = step_load.stream(log, 10, [0.3, 0.3, 0.3])
    assert 10 < len(calls) < 80 and calls == sorted(calls)
    with served(shop.service(log, tmp_path)) as client:
        ready(client)
        done = asyncio.run(
            step_load.course(client.base_url.host, client.base_url.port, calls, {"u1": {"i0": 2.0}})
        )
    assert len(done.due_s) == len(calls) and not np.isnan(done.value).any()
    assert done.looks and done.looks[0][1] > 0 and done.looks[0][2] == 1.0
    step_load.plot({"fixed": done}, [0.3, 0.3, 0.3], tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").stat().st_size > 1000
