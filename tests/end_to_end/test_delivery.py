"""`headrace prerank delivery`: a shop counts what it never counted, learns from it and serves."""

import shutil

import pytest
import torch

from headrace.bundle import Bundle
from headrace.data import Candidates
from headrace.features.delivery import Delivery
from headrace.log.delivery import DeliveryFiles
from headrace.run import Run
from headrace.serving.service import Service
from tests.end_to_end.conftest import headrace, refused

BEFORE = 'shelf = { of = "cross" }'
RATES = (
    f'{BEFORE}\nitem_delivery_7 = {{ of = "cross" }}\n'
    'passing = { of = "cross", column = "item_passing_28" }'
)


@pytest.fixture(scope="module")
def learnt(trained, tmp_path_factory):
    """A copy of the trained shop, counted by replay, then trained again with what was counted."""
    shop, _ = trained
    folder = tmp_path_factory.mktemp("delivery")
    shutil.copytree(shop.run, folder / "run", symlinks=True)
    text = shop.config.read_text().replace(str(shop.run), str(folder / "run"))
    config = folder / "shop.toml"
    config.write_text(text.replace(BEFORE, RATES).replace('kind = "vector"', 'kind = "cold"'))
    missing = refused("train", config)
    said = headrace("prerank", "delivery", config, "--requests", "400").stdout
    headrace("train", config)
    return folder / "run", missing, said


def test_training_without_counts_says_what_to_do(learnt):
    run, missing, _ = learnt
    assert f"{run}/log/delivery: no counts there" in missing
    assert "schema.features.item_delivery_7" in missing
    assert "headrace prerank delivery RUN" in missing
    assert len(missing.strip().splitlines()) == 1


def test_a_replay_counts_by_the_plan(learnt):
    run, _, said = learnt
    assert "days counted out of 400 requests" in said
    assert "among those that the cascade was trained on" in said
    log = Run.open(run).log()
    files = DeliveryFiles(log)
    sums = sum(files.read(day).count_3n.sum(axis=1) for day in files.days())
    assert sums.tolist() == [400 * 40, 400 * 20, 400 * 10]


def test_the_shop_serves_with_rates_and_counts_on(learnt):
    """Its server counts without being told to: its features are made of it."""
    run, _, _ = learnt
    with Service.open(run) as service:
        assert service.delivery is None  # only the writer counts
        assert len(service.recommend(user="5", k=5).items) == 5
    with Service.open(run, writable=True) as service:
        assert service.delivery is not None
    cascade = Bundle.open(run / "bundle").assemble(Run.open(run).log())
    assert {"item_delivery_7", "passing"} <= set(cascade.preranker.reads_cross)


def test_serving_and_training_make_the_same_rates(learnt):
    """The bundle's builder and that of the samples, on requests of all periods."""
    run = Run.open(learnt[0])
    cascade = Bundle.open(run.bundle_path).assemble(run.log())
    samples = run.samples()
    for part in ("train", "valid", "test"):
        rows = samples.requests(part)[:20]
        batch = samples.batch(samples.draw(rows, seed=1))
        found = Candidates(batch.candidates.item_id)
        served = cascade.features(batch.requests, found, samples.store)
        for name in ("item_delivery_7", "passing"):
            assert torch.equal(served.features[name], batch.candidates.features[name])
            assert len(served.features[name].unique()) > 1


def test_lost_counts_are_counted_again_by_the_cascade_that_reads_them(learnt, tmp_path):
    """Day by day, each with the rates of the days before."""
    run = tmp_path / "run"
    shutil.copytree(learnt[0], run, symlinks=True)
    log = Run.open(run).log()
    kept = "have counts already: give more --days, or --again"
    headrace("prerank", "delivery", run, "--days", "9", "--requests", "60", "--again")
    assert kept in refused("prerank", "delivery", run, "--days", "1")
    shutil.rmtree(DeliveryFiles(log).folder)
    assert "no counts there" in refused("recommend", run, "--user", "5")
    headrace("prerank", "delivery", run, "--days", "9", "--requests", "60")
    assert len(DeliveryFiles(log).days()) <= 9
    found = Delivery.read(log)
    assert found.total["shown"].max() > 0
    with Service.open(run) as service:
        assert len(service.recommend(user="5", k=5).items) == 5
