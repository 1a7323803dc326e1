"""`headrace prerank select` and `headrace slim` on a small shop, as a user would run them."""

import json
import re
import shutil
import tomllib

import pytest

from headrace.app import App
from headrace.bundle import Bundle
from headrace.config import load
from headrace.run import Run
from headrace.serving.service import Service
from tests.end_to_end.conftest import headrace, refused

COLD = ('[preranking]\nkind = "vector"', '[preranking]\nkind = "cold"\nhidden = [32, 16]')
STEPS = """[preranking]
kind = "two_step"
keep = 15
fine.kind = "cold"
fine.hidden = [16]"""
ALIGNED = """[preranking]
kind = "copr"
lists = 200
model = { kind = "cold", hidden = [16] }"""

GROWN = """[preranking]
kind = "lambda_cascade"
lists = 200
trees = 20"""


@pytest.fixture(scope="module")
def cold(trained, tmp_path_factory):
    """The shop with COLD in the place of the vector product, trained."""
    return with_preranker(trained, COLD[1], tmp_path_factory.mktemp("cold"))


@pytest.fixture(scope="module")
def stepped(trained, tmp_path_factory):
    """The shop with two steps, trained."""
    return with_preranker(trained, STEPS, tmp_path_factory.mktemp("stepped"))


def with_preranker(trained, section, folder):
    """Ingest and train the shop with another [preranking]."""
    shop, _ = trained
    text = shop.config.read_text().replace(COLD[0], section)
    config = folder / "cold.toml"
    config.write_text(text.replace(str(shop.run), str(folder / "run")))
    headrace("ingest", config)
    headrace("train", config)
    return config, folder / "run"


def test_select_prints_plots_and_says_what_to_write(cold):
    config, run = cold
    done = headrace("prerank", "select", config, "--keep", "3", "--keep", "6", "--budget-ms", "1e4")
    assert "groups by importance" in done.stdout
    written = tomllib.loads(done.stdout[done.stdout.index("groups = [") :])
    kept = json.loads((run / "prerank_select.json").read_text())
    assert [t["keep"] for t in kept["trials"]] == [6, 3]
    assert written["keep"] in (3, 6)
    assert written["groups"] == list(kept["importance"])
    assert len(written["groups"]) == 9
    assert all(0 <= t["hit"] <= 1 and t["rows_per_s"] > 0 for t in kept["trials"])
    assert "<svg" in (run / "prerank_select.svg").read_text()
    settings = "".join(f"{k} = {json.dumps(v)}\n" for k, v in written.items())
    again = config.with_name("again.toml")
    again.write_text(config.read_text().replace(COLD[1], f"{COLD[1]}\n{settings}"))
    assert load(again, App).preranking.keep == written["keep"]


@pytest.mark.parametrize("stage", ["preranking", "ranking"])
def test_slim_makes_a_bundle_that_serves(stage, cold, tmp_path):
    _, trained_run = cold
    run = tmp_path / "run"
    shutil.copytree(trained_run, run, symlinks=True)
    before = Bundle.open(run / "bundle")
    done = headrace("slim", run, "--stage", stage, "--budget", "0.2", "--epochs", "6")
    assert "rows/s" in done.stdout
    after = Bundle.open(run / "bundle")
    assert re.search(rf"bundle: version {after.version}", done.stdout)
    assert after.version != before.version
    changed = after.app.preranking if stage == "preranking" else after.app.ranking
    was = before.app.preranking if stage == "preranking" else before.app.ranking
    if stage == "preranking":  # gates of the tiny ranker may all stay open in so few steps
        assert changed != was
    assert after.app.retrieval == before.app.retrieval
    assert after.manifest.metrics[stage] > 0.5
    with Service.open(run) as service:
        assert len(service.recommend(user="5", k=5).items) == 5
    cascade = after.assemble(Run.open(run).log())
    assert set(cascade.preranker.reads_cross) <= set(cascade.builder.space.schema.names("cross"))


def test_two_steps_serve_and_are_fitted(stepped):
    _, run = stepped
    cascade = Bundle.open(run / "bundle").assemble(Run.open(run).log())
    with Service.open(run) as service:
        assert len(service.recommend(user="5", k=5).items) == 5
    done = headrace("prerank", "steps", run, "--target", "0.9", "--retrieval", "40")
    keep = int(re.search(r"^keep = (\d+)$", done.stdout, re.MULTILINE)[1])
    assert 1 <= keep <= 40
    after = Bundle.open(run / "bundle")
    assert after.app.preranking.keep == keep
    assert f"bundle: version {after.version}" in done.stdout
    fitted = after.assemble(Run.open(run).log())
    assert (cascade.preranker.keep, fitted.preranker.keep) == (15, keep)


def test_a_pre_ranker_learns_from_the_ranker_of_its_run(trained, tmp_path):
    _, run = with_preranker(trained, ALIGNED, tmp_path)
    left = json.loads((run / "training.json").read_text())["training"]
    assert len(left["preranking"]["loss"]) > 1
    report = headrace("evaluate", run).stdout
    assert "Does the pre-ranker agree" in report
    with Service.open(run) as service:
        assert len(service.recommend(user="5", k=5).items) == 5


def test_trees_grow_on_the_ranker_of_their_run_and_serve(trained, tmp_path):
    _, run = with_preranker(trained, GROWN, tmp_path)
    assert (Bundle.open(run / "bundle").arrays("preranking")["feature"] >= 0).any()
    assert "Does the pre-ranker agree" in headrace("evaluate", run).stdout
    with Service.open(run) as service:
        assert len(service.recommend(user="5", k=5).items) == 5


MISTAKES = {
    "no steps": (["prerank", "steps", "{cold}"], "its pre-ranker is 'cold': only \"two_step\" has"),
    "no target": (["prerank", "steps", "{cold}", "--target", "1.5"], "--target 1.5: a share of"),
    "not cold": (["prerank", "select", "{vector}"], "kind = 'vector': only \"cold\" has groups"),
    "too many": (["prerank", "select", "{cold}", "--keep", "40"], "--keep 40: there are 9 groups"),
    "no layers": (["slim", "{vector}"], "kind = 'vector': has no layers that gates thin out"),
    "no stage": (["slim", "{cold}", "--stage", "rank"], "--stage rank: preranking or ranking"),
    "no share": (["slim", "{cold}", "--budget", "2"], "--budget 2: a share between 0 and 1"),
    "no run": (["slim", "nowhere"], "nowhere: no such run"),
    "too fast": (
        ["prerank", "select", "{cold}", "--keep", "2", "--budget-ms", "0.0001"],
        "--budget-ms 0.0001: no K is within it; the fastest, keep = 2, takes",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_get_one_line_and_exit_code_2(name, cold, trained):
    arguments, message = MISTAKES[name]
    places = {"cold": cold[1], "vector": trained[0].run}
    said = refused(*[a.format(**places) for a in arguments])
    assert message in said
    assert len(said.strip().splitlines()) == 1
