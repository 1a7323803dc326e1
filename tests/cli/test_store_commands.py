"""`headrace store` over a run of each kind, and its mistakes in one line."""

import json
from pathlib import Path

import polars as pl
import pytest

from headrace import cli
from headrace.app import App
from headrace.config import load
from headrace.errors import ConfigError
from tests import tiny
from tests.behavior import resp

SHOP = Path(__file__).parents[1] / "end_to_end" / "shop.toml"


@pytest.fixture
def configured(tmp_path):
    """Write a configuration with these settings of the store, over a log that is there."""
    tiny.write(tmp_path / "run", tiny.raw_log())

    def configure(settings):
        text = SHOP.read_text().replace("RUN", str(tmp_path / "run"))
        path = tmp_path / "shop.toml"
        path.write_text(f"{text}\n[serving.store]\n{settings}\n")
        return path

    return configure


@pytest.fixture
def events(tmp_path):
    path = tmp_path / "events.csv"
    pl.DataFrame(
        {
            "user": ["1", "new"],
            "item": ["7", "8"],
            "type": ["buy", "click"],
            "time_ms": [1_750_000_000_000, 1_750_000_000_001],
        }
    ).write_csv(path)
    return path


@pytest.fixture
def run(monkeypatch, capsys):
    """The command line: its exit code, and what it printed."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["headrace", "store", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        said = capsys.readouterr()
        return code, " ".join((said.out + said.err).split())

    return run


def stats(run, path):
    return json.loads(run("stats", path)[1])


@pytest.mark.parametrize("kind", ["local", "redis"])
def test_from_file_to_log(configured, events, run, tmp_path, kind):
    with resp.fake() as server:
        path = configured(
            f'kind = "{kind}"' + (f'\nurl = "{server.url}"' if kind == "redis" else "")
        )
        before = stats(run, path)
        assert (before["kind"], before["events"]) == (kind, 0)
        code, said = run("load", path, events)
        assert (code, said.endswith("2 events appended, 0 known already")) == (0, True)
        assert run("load", path, events)[1].endswith("0 events appended, 2 known already")
        assert ("keys written" if kind == "redis" else "nothing to do") in run("load", path)[1]
        assert run("export", path, tmp_path / "out.parquet")[1].endswith("out.parquet: 2 events")
        assert pl.read_parquet(tmp_path / "out.parquet")["user"].to_list() == ["1", "new"]
        assert "2 events compacted" in run("compact", path)[1]
        after = stats(run, path)
        assert (after["events"], after["log_events"]) == (0, before["log_events"] + 2)


def test_mistakes_are_one_line(configured, events, run, tmp_path):
    path = configured('kind = "memory"')
    for command in (("export", path, tmp_path / "x.parquet"), ("compact", path)):
        code, said = run(*command)
        assert (code, said[:6]) == (2, "error:")
        assert 'serving.store: kind = "memory" keeps nothing' in said
    path = configured('kind = "local"')
    code, said = run("export", path, events)
    assert (code, "exists already; choose another name" in said) == (2, True)
    code, said = run("export", path, tmp_path / "nowhere" / "x.parquet")
    assert (code, "cannot be written" in said) == (2, True)
    code, said = run("load", path, tmp_path / "missing.csv")
    assert (code, "missing.csv: cannot be read as .csv" in said) == (2, True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('kind = "rediss"', r"serving.store.kind: no such kind 'rediss'; did you mean 'redis'\?"),
        (
            'kind = "redis"\ndeadline = 5',
            r"serving.store.deadline: no such setting; did you mean 'deadline_ms'",
        ),
        (
            'kind = "redis"\ndeadline_ms = 0',
            r"serving.store.deadline_ms: .* greater than or equal to 1",
        ),
        ('kind = "local"\nmap_mb = 0', r"serving.store.map_mb: .* greater than or equal to 1"),
    ],
)
def test_wrong_settings(configured, settings, message):
    with pytest.raises(ConfigError, match=rf"shop.toml:\d+: {message}"):
        load(configured(settings), App)


def test_the_default_is_local(configured):
    assert load(configured('kind = "local"'), App).serving.store.kind == "local"
    assert load(SHOP, App).serving.store.kind == "local"
