"""Which sequences parts read together."""

from headrace.stages import sequences_read


class Part:
    def __init__(self, *reads):
        self.reads_sequences = reads


class Unsure:
    reads_sequences = None


def test_what_parts_say_is_joined():
    assert sequences_read([Part("a"), Part(), Part("b", "a")]) == {"a", "b"}
    assert sequences_read([]) == set()


def test_a_part_that_does_not_say_may_read_all():
    assert sequences_read([Part("a"), object()]) is None
    assert sequences_read([Unsure(), Part("a")]) is None
