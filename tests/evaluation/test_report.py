"""A report survives being written, lacks nothing it says it has, and is documented key by key."""

import errno
import json
import os
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from headrace.errors import DataError
from headrace.evaluation import Report, read_report, write_report
from headrace.evaluation import report as files

DOCS = Path(__file__).parents[2] / "docs" / "report.md"


def test_what_is_written_is_read_back(report, tmp_path):
    path = write_report(report, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.json"
    assert read_report(path.parent) == report
    assert (path.parent / "report.html").read_text().startswith("<!doctype html>")


def test_numpy_numbers_are_taken_and_nan_is_null(least, tmp_path):
    least["data"]["truth_per_request"] = float("nan")
    least["data"]["new_to_user_share"] = np.float32(0.5)
    least["data"]["users"] = np.int64(7)
    got = json.loads(write_report(least, tmp_path).read_text())["data"]
    assert got["truth_per_request"] is None
    assert got["new_to_user_share"] == 0.5
    assert got["users"] == 7


@pytest.mark.parametrize("place", [(), ("cascade",), ("retrieval", "channels", "swing"), ("data",)])
def test_an_unknown_key_is_a_bug_of_the_caller(report, tmp_path, place):
    part = report
    for key in place:
        part = part[key]
    part["recal@10"] = 1.0
    with pytest.raises(ValidationError, match="recal@10"):
        write_report(report, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_report_whole(least, tmp_path, monkeypatch):
    write_report(least, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    least["version"] = "9.9.9"
    with pytest.raises(DataError, match=r"report cannot be written .*No space left"):
        write_report(least, tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "no report to read .*run `headrace evaluate` first"),
        ('{"version": ', "file: Invalid JSON"),
        ('{"version": "0.1.0", "config": "x"}', "data: Field required.*evaluate again"),
    ],
)
def test_a_missing_or_damaged_report_is_one_clear_line(tmp_path, content, what):
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(DataError, match=what) as error:
        read_report(tmp_path)
    assert "\n" not in str(error.value)


def families(node, definitions, path=()):
    """Every kind of leaf that a report may have: ``<>`` for a name, ``[]`` for a place."""
    if "$ref" in node:
        node = definitions[node["$ref"].rsplit("/", 1)[-1]]
    if node.get("type") == "object":
        for key, value in node.get("properties", {}).items():
            yield from families(value, definitions, (*path, key))
        if isinstance(node.get("additionalProperties"), dict):
            yield from families(node["additionalProperties"], definitions, (*path, "<>"))
    elif node.get("type") == "array":
        yield from families(node["items"], definitions, (*path, "[]"))
    else:
        yield ".".join(path)


def documented():
    """The keys of the tables in docs/report.md, written out in the same way."""
    for line in DOCS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| `"):
            continue
        assert len(cells) == 3, f"want key, unit and meaning: {line}"
        assert cells[2], f"no meaning: {line}"
        key = cells[0].strip("`")
        key = re.sub(r'\["([^"]+)"\]', r".\1", key).replace("[]", ".[]")
        key = re.sub(r"<\w+>", "<>", key)
        parts = [p.split(",") for p in re.split(r"[{}]", key)]
        yield from ("".join(choice) for choice in product(*parts))


def test_every_key_is_documented_and_no_other():
    schema = TypeAdapter(Report).json_schema()
    exists = set(families(schema, schema["$defs"]))
    written = list(documented())
    assert len(written) == len(set(written))
    assert set(written) == exists
