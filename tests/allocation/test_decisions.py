"""Decisions on disk: in order, in two files at most, and whole lines whatever the disk does."""

import json
import resource

from headrace.allocation import decisions
from headrace.allocation.decisions import DECISIONS, DecisionLog


def rows(path):
    return [json.loads(line)["n"] for line in path.open()]


def test_a_full_disk_costs_lines_and_no_more(tmp_path, caplog):
    log, path = DecisionLog(tmp_path, batch=1), tmp_path / DECISIONS
    log.add([{"n": 1}])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 4, hard))
    try:
        log.add([{"n": 2}])
        log.add([{"n": 3}, {"n": 4}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.add([{"n": 5}])
    assert (rows(path), log.lost) == ([1, 5], 3)
    assert len([r for r in caplog.records if "decisions are not logged" in r.message]) == 1


def test_lines_wait_for_others_and_a_large_file_makes_way(tmp_path, monkeypatch):
    monkeypatch.setattr(decisions, "LARGEST_BYTES", 10)
    log, path = DecisionLog(tmp_path, batch=2), tmp_path / DECISIONS
    log.add([{"n": 1}])
    assert not path.exists()
    log.add([{"n": 2}])
    log.add([{"n": 3}])
    log.flush()
    log.flush()
    assert (rows(path), rows(tmp_path / f"{DECISIONS}.1")) == ([3], [1, 2])
