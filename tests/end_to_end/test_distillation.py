"""A pre-ranker taught by the shop's ranker, by the real configuration: trained, saved, served."""

import dataclasses
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from headrace.bundle import Bundle
from headrace.errors import ConfigError, HeadraceError
from headrace.features.encoders import Vocabulary
from headrace.pipeline.distillation import Teaching, ranker_of, scored
from headrace.pipeline.learning import Judge, learn
from headrace.pipeline.train import save, train
from headrace.run import Run
from headrace.samples.taught import read_scores
from headrace.serving.service import Service
from headrace.training import Trainer
from headrace.training.distill import Distilled
from tests.end_to_end.conftest import Shop, headrace, refused

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


def test_another_runs_ranker_teaches(taught, tmp_path):
    _, run, _ = taught
    other, trainer = trained(shop_with(tmp_path, COLD + f'run = "{run.folder}"'))
    assert "preranking" in trainer.histories
    assert Bundle.open(other.bundle_path).app.preranking.distill.run == str(run.folder)


def test_a_log_of_scores_is_kept_and_teaches(taught, tmp_path):
    _, run, _ = taught
    path = tmp_path / "scores.parquet"
    done = headrace("prerank", "scores", run.folder, path, "--requests", "60")
    assert "write under [preranking.distill]" in done.stdout
    log, rows = run.log(), run.samples().requests("train")
    lists = read_scores(path, log, np.sort(rows), ("click", "buy"))
    assert len(lists.request) == 60
    teacher = ranker_of(run.folder, run.app, run.samples())
    again = scored(lists, teacher, run.samples())
    torch.testing.assert_close(again.score_NT, lists.score_NT)
    other, _ = trained(shop_with(tmp_path, COLD + f'scores = "{path}"'))
    assert Bundle.open(other.bundle_path).app.preranking.distill.scores == str(path)


def test_the_same_twice(taught, tmp_path):
    again, _ = trained(shop_with(tmp_path, COLD + "retrieved = 4\nlists = 50"))
    first, second = (Bundle.open(r.bundle_path).arrays("preranking") for r in (taught[1], again))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("joint", [False, True])
def test_of_several_weights_the_best_stays_as_if_it_were_the_only_one(joint, taught):
    _, run, _ = taught
    samples, ranker = run.samples(), ranker_of(run.folder, run.app, run.samples())
    judge = Judge(samples)

    def learnt(**settings):
        config = Distilled.Config(joint=joint, retrieved=0, **settings)
        preranking = run.app.preranking.model_copy(update={"distill": config})
        app, trainer = run.app.model_copy(update={"preranking": preranking}), Trainer()
        teaching = Teaching.prepared(app, samples, trainer, judge, lambda: ranker, pytest.fail)
        torch.manual_seed(app.seed)
        student = app.preranking.build(samples.space, app.samples.tasks)
        return teaching.learn(student, "s"), student.state_dict(), trainer.histories

    weight, kept, histories = learnt(weights=(0.5, 0.0, 1.0))
    quality = {w: histories[f"s.weight_{w:g}"].best[1] for w in (0.5, 0.0, 1.0)}
    assert weight == max(quality, key=quality.get)
    assert histories["s"] is histories[f"s.weight_{weight:g}"]
    _, alone, _ = learnt(weight=weight)
    assert all(torch.equal(value, alone[name]) for name, value in kept.items())
    _, turned, _ = learnt(weights=(1.0, 0.0, 0.5))
    assert all(torch.equal(value, turned[name]) for name, value in kept.items())
    untaught, trainer = run.app.preranking, Trainer()
    torch.manual_seed(run.app.seed)
    student = untaught.build(samples.space, run.app.samples.tasks)
    learn(student, run.app.prerank_training, samples, trainer, judge, "s")
    assert histories["s.weight_0"].loss == trainer.histories["s"].loss


def test_a_teacher_of_another_schema_or_period_is_refused(taught):
    _, run, _ = taught
    other = run.app.schema_.model_copy(update={"default_dim": 2})
    app = run.app.model_copy(update={"schema_": other})
    with pytest.raises(ConfigError, match=r"run: .* a teacher of another schema: its general"):
        ranker_of(run.folder, app, run.samples())
    samples = run.samples()
    encoders = {**samples.space.encoders, "category": Vocabulary(("c1",))}
    space = dataclasses.replace(samples.space, encoders=encoders)
    samples = run.samples(space)
    with pytest.raises(ConfigError, match="category was encoded on another training period"):
        ranker_of(run.folder, run.app, samples)


MISTAKES = {
    "weight": ("weight = 1.5", "preranking.distill.weight: input should be less than or equal"),
    "weights": ("weights = [0.5, 2.0]", "preranking.distill.weights.1"),
    "weight and weights": (
        "weight = 0.5\nweights = [0.1]",
        "preranking.distill: names a weight and weights",
    ),
    "a weight twice": ("weights = [0.5, 0.5]", "preranking.distill: weights: one is named twice"),
    "scheme": ('scheme = "pdf"', "preranking.distill.scheme: no such choice 'pdf'; did you mean"),
    "joint": ('joint = true\nscores = "s.parquet"', "joint: the teacher of scores is of an"),
    "nothing privileged": (
        'scheme = "pfd"',
        'scheme: "pfd" needs a feature with of = "privileged"',
    ),
    "no scores": ('scores = "none.parquet"', "none.parquet: no teacher scores there"),
    "no run": ('run = "nowhere"', "nowhere"),
}
LATER = ("nothing privileged", "no scores", "no run")  # than the file is read


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_get_one_line(name, tmp_path):
    settings, message = MISTAKES[name]
    shop = shop_with(tmp_path, COLD + settings)
    if name not in LATER:
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
