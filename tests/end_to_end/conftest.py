"""A shop's files, its configuration, and its cascade trained by the real command line."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

from headrace import cli
from tests import tiny

HERE = Path(__file__).parent


def headrace(*arguments, check=True):
    """Run the installed command as a user would."""
    done = subprocess.run(
        [sys.executable, "-m", "headrace", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    if check:
        assert done.returncode == 0, done.stderr
    return done


def refused(*arguments):
    """What the command says to a mistake, run in this process: imports take seconds."""
    said = io.StringIO()
    with (
        patch.object(sys, "argv", ["headrace", *map(str, arguments)]),
        redirect_stderr(said),
        redirect_stdout(io.StringIO()),
        pytest.raises(SystemExit) as left,
    ):
        cli.main()
    assert left.value.code == 2
    return said.getvalue()


class Shop:
    """Files of a shop and the configuration that names them."""

    def __init__(self, folder):
        self.folder, self.data, self.run = folder, folder / "data", folder / "run"
        self.data.mkdir()
        raw = tiny.raw_log()
        for name in ("events", "items", "users", "requests", "exposures"):
            getattr(raw, name).write_parquet(self.data / f"{name}.parquet")
        self.config = folder / "shop.toml"
        self.write()

    def write(self, *changes):
        text = (HERE / "shop.toml").read_text()
        for old, new in (("RUN", str(self.run)), ("DATA", str(self.data)), *changes):
            assert old in text
            text = text.replace(old, new)
        self.config.write_text(text)


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def trained(shop):
    """The shop after `headrace demo`, with what it printed."""
    return shop, headrace("demo", shop.config)
