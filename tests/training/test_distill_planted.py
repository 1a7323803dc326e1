"""Distillation where the truth is known; at full size: ``python -m benchmarks.distillation``."""

from benchmarks import distillation


def test_a_teacher_with_privileged_features_teaches_and_they_alone_mislead():
    world = distillation.dwell_world(seed=1, requests=3_000)
    test = world.made.test

    def auc(scheme):
        student = distillation.taught(world, scheme, seed=1, epochs=2).eval()
        score_N = student.score(test.requests, test.candidates)[:, 0]
        return distillation.expected_auc(world.test_N, score_N)

    base, pfd, lupi, oracle = map(auc, ("base", "pfd", "lupi", "oracle"))
    assert pfd - base >= 0.2 * (oracle - base) > 0
    assert lupi < pfd
