"""Benchmarks take minutes and are not run here; what they import and their options must be there."""

from importlib import import_module
from pathlib import Path

import pytest

from benchmarks._preranking_table import Point

FOLDER = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_measures_and_how_to_run_it(name, monkeypatch, capsys):
    module = import_module(f"benchmarks.{name}")
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as left:
        module.main()
    assert left.value.code == 0
    assert "--save" in capsys.readouterr().out
    assert f"python -m benchmarks.{name}" in (module.__doc__ or "")


def test_a_model_from_several_seeds_tells_mean_and_range():
    first = Point("cold 3", 0.9, 0.8, 1e6, 2.0)
    assert first.plain() == {"gauc": 0.9, "hit": 0.8, "rows_per_s": 1e6, "ms_2000": 2.0}
    several = first.again([(0.93, 0.7), (0.9, 0.9)]).plain()
    assert several["gauc"] == 0.91 and several["gauc_range"] == [0.9, 0.93]
    assert several["hit"] == 0.8 and several["hit_range"] == [0.7, 0.9]
    assert several["ms_2000"] == 2.0
