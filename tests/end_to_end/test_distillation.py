"""A pre-ranker taught by the shop's ranker, by the real configuration: trained, saved, served."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from headrace.bundle import Bundle
from headrace.distillation import collect, ranker_of, scored
from headrace.errors import ConfigError, HeadraceError
from headrace.pipeline import save, train
from headrace.run import Run
from headrace.samples.taught import write_scores
from headrace.serving.service import Service
from headrace.training import Trainer
from tests.end_to_end.conftest import Shop, refused

VECTOR = '[preranking]\nkind = "vector"'
COLD = '[preranking]\nkind = "cold"\nhidden = [16]\n[preranking.distill]\n'
GONE = [
    (f'[retrieval.{name}]\nkind = "{name}"\n', "")
    for name in ("repurchase", "item_cf", "two_tower", "foil")
]
GONE += [(f"{name} = 30\n", "") for name in ("repurchase", "item_cf", "two_tower", "foil")]
ONE = (
    '[ranking]\nkind = "din"\nhidden = [16]\n',
    "[prerank_training.training]\nepochs = 1\n[rank_training.training]\nepochs = 1\n"
    '[ranking]\nkind = "mlp"\nhidden = [16]\n',
)
SECRET = (
    'shelf = { of = "cross" }',
    'shelf = { of = "cross" }\npaid = { of = "privileged", column = "buy" }\n'
    'often = { of = "privileged", column = "user_item_count" }',
)


def shop_with(folder, preranking, *changes):
    """A shop with two channels and this pre-ranker."""
    shop = Shop(folder)
    shop.write((VECTOR, preranking), ONE, *GONE, *changes)
    return shop


def trained(shop):
    run, trainer = Run.of(shop.config), Trainer()
    run.ingest()
    save(run, trainer, train(run, trainer, lambda name: nullcontext()), {})
    return run, trainer


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """The shop with COLD taught by its ranker, on what its channels find too."""
    shop = shop_with(tmp_path_factory.mktemp("taught"), COLD + "retrieved = 4\nlists = 50")
    return (shop, *trained(shop))


def test_it_trains_and_serves(taught):
    shop, run, trainer = taught
    assert list(trainer.histories)[-3:] == ["ranking", "lr", "preranking"]
    bundle = Bundle.open(run.bundle_path)
    assert bundle.app.preranking.distill.retrieved == 4
    names = set(bundle.arrays("preranking"))
    assert names == set(
        run.app.preranking.build(run.samples().space, ("click", "buy")).state_dict()
    )
    with Service.open(shop.run) as service:
        assert len(service.recommend(user="5", k=5).items) == 5


@pytest.mark.parametrize(
    "preranking",
    [
        COLD + 'scheme = "pfd"',
        COLD + 'scheme = "lupi"\nprivileged = ["often"]',
        VECTOR + '\n[preranking.distill]\nscheme = "pfd"\nprivileged = ["often"]\njoint = true',
        VECTOR + '\n[preranking.distill]\nscheme = "pfd_md"\njoint = true\nweight = 0.9',
    ],
    ids=["cold by pfd", "cold by lupi", "vector by joint pfd", "vector by joint pfd_md"],
)
def test_what_is_privileged_stays_in_training(preranking, tmp_path):
    shop = shop_with(tmp_path, preranking, SECRET)
    run, trainer = trained(shop)
    assert ("preranking.teacher" in trainer.histories) == ("joint" not in preranking)
    bundle = Bundle.open(run.bundle_path)
    stages = [bundle.arrays(name) for name in ("preranking", "ranker.ranking", "ranker.lr")]
    assert not any("paid" in name or "often" in name for arrays in stages for name in arrays)
    with Service.open(shop.run) as service:
        assert len(service.recommend(user="5", k=5).items) == 5


def test_another_runs_ranker_and_its_log_teach(taught, tmp_path):
    _, run, _ = taught
    samples = run.samples()
    teacher = ranker_of(run.folder, run.app, samples)
    cascade = Bundle.open(run.bundle_path).assemble(run.log())
    rows = np.sort(samples.requests("train"))[-60:]

    def find(requests):
        quota = torch.full((len(requests),), 10)
        found = {name: c.retrieve(requests, quota) for name, c in cascade.channels.items()}
        return cascade.merge.merge(found, quota)

    lists = scored(collect(samples, rows, find), teacher, samples)
    assert len(lists.request) == 60
    assert len(lists.score_NT) == len(lists.item.values)
    path = tmp_path / "scores.parquet"
    write_scores(path, run.log(), lists, run.app.samples.tasks)
    for number, source in enumerate((f'run = "{run.folder}"', f'scores = "{path}"')):
        (tmp_path / str(number)).mkdir()
        other, trainer = trained(shop_with(tmp_path / str(number), COLD + source))
        assert "preranking" in trainer.histories
        assert Bundle.open(other.bundle_path).version


def test_the_same_twice(taught, tmp_path):
    again, _ = trained(shop_with(tmp_path, COLD + "retrieved = 4\nlists = 50"))
    first, second = (Bundle.open(r.bundle_path).arrays("preranking") for r in (taught[1], again))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_teacher_of_another_schema_or_period_is_refused(taught):
    _, run, _ = taught
    other = run.app.schema_.model_copy(update={"default_dim": 2})
    app = run.app.model_copy(update={"schema_": other})
    with pytest.raises(ConfigError, match=r"run: .* a teacher of another schema: its general"):
        ranker_of(run.folder, app, run.samples())
    early = run.app.samples.model_copy(update={"valid_days": 20})
    moved = run.app.model_copy(update={"samples": early})
    samples = Run(run.folder, moved, run.text).samples()
    states = [s.encoders["user"].state() for s in (samples.space, run.samples().space)]
    if json.dumps(states[0]) != json.dumps(states[1]):
        with pytest.raises(ConfigError, match="was encoded on another training period"):
            ranker_of(run.folder, moved, samples)


MISTAKES = {
    "weight": ("weight = 1.5", "preranking.distill.weight: input should be less than or equal"),
    "scheme": ('scheme = "pdf"', "preranking.distill.scheme: no such choice 'pdf'; did you mean"),
    "joint": ('joint = true\nscores = "s.parquet"', "joint: the teacher of scores is of an"),
    "nothing privileged": (
        'scheme = "pfd"',
        'scheme: "pfd" needs a feature with of = "privileged"',
    ),
    "no scores": ('scores = "none.parquet"', "none.parquet: no teacher scores there"),
    "no run": ('run = "nowhere"', "nowhere"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_get_one_line(name, tmp_path):
    settings, message = MISTAKES[name]
    shop = shop_with(tmp_path, COLD + settings)
    if name in ("weight", "scheme", "joint"):
        said = refused("train", shop.config)
    else:
        with pytest.raises(HeadraceError) as raised:
            trained(shop)
        said = str(raised.value)
    assert message in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            'scheme = "pfd"\nretrieved = 2',
            "retrieved: the teacher reads 'paid', which nobody knows",
        ),
        ('scheme = "pfd"\nprivileged = ["ofen"]', "no privileged feature 'ofen'; did you mean 'of"),
    ],
)
def test_mistakes_about_privileged_features(settings, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        trained(shop_with(tmp_path, COLD + settings, SECRET))
