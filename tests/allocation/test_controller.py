"""Power falls fast, rises slowly, settles without swinging, and survives bad clocks and metrics."""

import pytest

from headrace.allocation.controller import Controller
from headrace.stages import Status
from tests.allocation.planted import Hand


@pytest.fixture
def clock():
    return Hand(100.0)


def made(clock, **settings):
    return Controller(Controller.Config(**settings), clock)


def run(controller, clock, status, seconds, period=0.25):
    out = []
    for _ in range(int(seconds / period)):
        clock.now += period
        out.append(controller.step(status))
    return out


BAD, GOOD = Status(p99_ms=500, waiting=60, cpu=1.0, errors=0.3), Status(5, 0, 0.1, 0)


def test_fast_down_slow_up(clock):
    controller = made(clock)
    assert run(controller, clock, GOOD, 5)[-1] == 1
    down = run(controller, clock, BAD, 5)
    assert down[0] >= 0.75 - 1e-9 and down[-1] == 0
    assert down.index(0) <= 2 / 0.25
    up = run(controller, clock, GOOD, 60)
    assert max(b - a for a, b in zip([0, *up], up, strict=False)) <= 0.05 * 0.25 + 1e-9
    assert up[-1] == 1


def test_no_windup(clock):
    controller = made(clock)
    run(controller, clock, BAD, 600)
    up = run(controller, clock, GOOD, 10)
    assert up[-1] > 0.3  # ten minutes of trouble are not to be paid back


def test_it_rises_as_far_as_it_holds_requests_back(clock):
    """Where prices hold them, power without effect would be too high when the rush comes."""
    controller = made(clock)
    run(controller, clock, BAD, 5)
    for held_back, after in ((0.0, 0.0), (0.1, 0.05), (1.0, 0.55)):
        for _ in range(40):
            clock.now += 0.25
            power = controller.step(GOOD, held_back)
        assert power == pytest.approx(after, abs=0.01)
    clock.now += 0.25
    assert controller.step(BAD, 0.0) < power  # it falls all the same


def test_noise_below_the_target_lowers_nothing(clock):
    """Falls are twenty times as fast as rises: noise around nothing amiss would end at 0."""
    controller = made(clock, p99_ms=50)
    controller.power = 0.5
    noisy = [Status(p99_ms=20 + 20 * (at % 2), waiting=6 * (at % 3 == 0)) for at in range(40)]
    powers = [run(controller, clock, status, 0.25)[-1] for status in noisy]
    assert powers == sorted(powers) and powers[-1] > 0.6
    powers = [
        run(controller, clock, Status(p99_ms=47 + 6 * (at % 2)), 0.25)[-1] for at in range(40)
    ]
    assert powers[1:] == powers[:1] * 39  # this near to its target all is well


def plant(controller, clock, load, seconds, full_ms=10.0, least_ms=2.0):
    """One core: utilisation and a queue that follow from the power and the load."""
    powers, queue = [], 0.0
    for _ in range(int(seconds / 0.25)):
        work_ms = least_ms + (full_ms - least_ms) * controller.power
        queue = max(0.0, min(64, queue + 0.25 * (load - 1000 / work_ms)))
        busy = min(1.0, load * work_ms / 1000) if queue == 0 else 1.0
        clock.now += 0.25
        waited = work_ms * (1 + queue + 3 * busy)
        controller.step(Status(waited, queue + busy, busy, 0.0))
        powers.append(controller.power)
    return powers, queue


def test_eight_times_the_load_and_back(clock):
    controller = made(clock)
    calm, _ = plant(controller, clock, 30, 30)
    assert calm[-1] == 1
    stepped, queue = plant(controller, clock, 240, 60)
    assert queue == 0
    late = stepped[len(stepped) // 2 :]
    assert max(late) - min(late) <= 0.2 and 0 < sum(late) / len(late) < 1
    back, _ = plant(controller, clock, 30, 60)
    assert back[-1] == 1


def test_a_clock_that_goes_backwards_changes_nothing(clock):
    controller = made(clock)
    run(controller, clock, BAD, 0.5)
    power = controller.power
    clock.now -= 1000
    assert controller.step(BAD) == power
    assert controller.step(BAD) == power  # and one that stands still
    clock.now += 0.25
    assert controller.step(BAD) < power


def test_without_metrics_it_holds_and_then_goes_where_it_is_safe(clock):
    controller = made(clock)
    assert run(controller, clock, Status(), 9) == [1.0] * 36
    assert run(controller, clock, Status(), 5)[-1] == 0.5
    run(controller, clock, BAD, 5)
    assert run(controller, clock, Status(p99_ms=float("nan")), 9)[-1] == 0
    assert run(controller, clock, Status(), 20)[-1] == pytest.approx(0.5)


def test_one_signal_is_enough(clock):
    for status in (Status(p99_ms=500), Status(waiting=50), Status(cpu=2), Status(errors=0.5)):
        controller = made(clock)
        assert run(controller, clock, status, 10)[-1] == 0


def test_a_pause_is_no_licence_for_a_leap(clock):
    controller = made(clock, down_per_s=0.5)
    clock.now += 3600
    assert controller.step(BAD) >= 0.5
