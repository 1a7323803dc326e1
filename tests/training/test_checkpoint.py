from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from headrace.errors import DataError
from headrace.training import checkpoint

STATE = {"model": {"w": torch.arange(1000.0)}, "best": {}, "history": {"validation": [(3, 0.5)]}}


def test_what_is_saved_is_loaded(tmp_path: Path):
    directory = tmp_path / "a" / "b"
    checkpoint.save(directory, STATE)
    loaded = checkpoint.load(directory)
    assert torch.equal(loaded["model"]["w"], STATE["model"]["w"])
    assert loaded["history"] == STATE["history"]
    assert [p.name for p in directory.iterdir()] == ["checkpoint.pt"]


def test_no_checkpoint_is_none(tmp_path: Path):
    assert checkpoint.load(tmp_path / "nowhere") is None


@pytest.mark.parametrize("kept", [0, 10, 700, -1])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int):
    checkpoint.save(tmp_path, STATE)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"checkpoint\.pt: checkpoint is damaged .*; delete it to"):
        checkpoint.load(tmp_path)


def test_a_flipped_bit_is_named(tmp_path: Path):
    checkpoint.save(tmp_path, STATE)
    path = tmp_path / "checkpoint.pt"
    data = bytearray(path.read_bytes())
    data[data.index(torch.tensor([500.0, 501.0]).numpy().tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"is damaged in .*data/0; delete it to start over"):
        checkpoint.load(tmp_path)


def test_another_format_is_refused(tmp_path: Path):
    torch.save({"format": 0}, tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match="not a checkpoint of this version of headrace"):
        checkpoint.load(tmp_path)


def test_another_zip_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "checkpoint.pt", "w") as file:
        file.writestr("hello", "world")
    with pytest.raises(DataError, match="is damaged"):
        checkpoint.load(tmp_path)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("code in the file was executed",))


def test_loading_executes_nothing(tmp_path: Path):
    torch.save({"format": checkpoint.FORMAT, "trap": Trap()}, tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match="is damaged"):
        checkpoint.load(tmp_path)


def test_a_full_disk_costs_nothing_but_the_new_checkpoint(tmp_path: Path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.fail("this system has no /dev/full to stand in for a full disk")
    checkpoint.save(tmp_path, STATE)
    (tmp_path / "checkpoint.tmp").symlink_to(full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\)"):
        checkpoint.save(tmp_path, {"model": {}})
    assert len(checkpoint.load(tmp_path)["model"]["w"]) == 1000


def test_a_directory_that_cannot_be_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/checkpoint\.pt: checkpoint cannot be written"):
        checkpoint.save(tmp_path / "file", STATE)


def test_what_differs_is_named():
    assert checkpoint.differing({"a": 1, "b": 2}, {"a": 1, "b": 2}) is None
    assert checkpoint.differing({"a": 1, "b": 2}, {"a": 1, "b": 3}) == "b is 2 here, 3 there"
    assert checkpoint.differing({"a": 1}, {}) == "a is 1 here, absent there"
