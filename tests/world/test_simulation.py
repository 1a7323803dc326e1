"""`headrace simulate` by file."""

import pytest

from headrace.errors import ConfigError
from headrace.world import simulate_file


def test_a_file_becomes_a_log(tmp_path):
    file = tmp_path / "world.toml"
    file.write_text(
        f'log = "{tmp_path}/log"\n[world]\npreset = "shop"\n[world.people]\nusers = 50\n'
    )
    log = simulate_file(file)
    assert log.manifest.num_users == 51
    assert simulate_file(file).path == log.path


def test_a_mistake_names_its_line(tmp_path):
    file = tmp_path / "world.toml"
    file.write_text('log = "x"\n[world]\npreset = "shop"\n[world.people]\nuser = 50\n')
    with pytest.raises(ConfigError, match=r"world\.toml:5: world\.people\.user: no such setting"):
        simulate_file(file)
