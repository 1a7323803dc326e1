import os
from threading import get_ident

import pytest

from headrace.ops.parallel import each, spread


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
