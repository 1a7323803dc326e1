"""Distillation where the truth is known; at full size: ``python -m benchmarks.distillation``."""

from benchmarks import _dwell


def test_a_teacher_with_privileged_features_teaches_and_they_alone_mislead():
    world = _dwell.dwell_world(seed=1, requests=3_000)
    names = ("base", "pfd", "lupi", "oracle")
    students = [_dwell.taught(world, _dwell.Way(n, n), seed=1, epochs=2) for n in names]
    base, pfd, lupi, oracle = (_dwell.quality(student, world) for student in students)
    assert pfd - base >= 0.2 * (oracle - base) > 0
    assert lupi < pfd
