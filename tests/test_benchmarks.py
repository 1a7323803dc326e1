"""Benchmarks take minutes and are not run here; what they import and their options must be there."""

from importlib import import_module
from pathlib import Path

import pytest

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
