import os
from threading import Event, get_ident

import pytest

from headrace.ops.parallel import beside, each, spread


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 1, 19, 20, 100])
def test_spans_make_up_the_whole(size, threads):
    spans = []
    spread(lambda a, z: spans.append((a, z, get_ident())), size, 10, threads)
    spans.sort()
    assert len(spans) == max(1, min(threads, size // 10))
    assert [a for a, _, _ in spans] == [0, *(z for _, z, _ in spans[:-1])]
    assert spans[-1][1] == size
    assert any(thread == get_ident() for _, _, thread in spans)


def test_what_spans_make_keeps_their_order():
    assert each(lambda span: span[1] - span[0], [(0, 3), (3, 4), (4, 9)]) == [3, 1, 5]


def test_an_error_of_another_thread_arrives():
    def work(first, last):
        if first:
            raise ZeroDivisionError(last)

    with pytest.raises(ZeroDivisionError, match="20"):
        spread(work, 20, 10, 2)


def test_a_fork_has_threads_of_its_own():
    spread(lambda a, z: None, 20, 10, 2)
    child = os.fork()
    if child == 0:
        spread(lambda a, z: None, 20, 10, 2)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_helpers_work_beside_until_they_are_told_to_end():
    begun, over = Event(), Event()

    def work():
        begun.set()
        assert over.wait(10)

    with beside(work, 1, over.set):
        assert begun.wait(10)
        assert not over.is_set()
    assert over.is_set()


def test_what_a_helper_raises_is_raised():
    begun = Event()

    def fail():
        begun.set()
        raise RuntimeError("no help")

    with pytest.raises(RuntimeError, match="no help"), beside(fail, 1, lambda: None):
        assert begun.wait(10)


def test_without_helpers_there_is_only_the_end():
    over = Event()
    with beside(over.wait, 0, over.set):
        pass
    assert over.is_set()
