"""What distillation must obey, on the tiny shop."""

import copy
import dataclasses

import pytest
import torch
from pydantic import ValidationError

from headrace.config import Kinds
from headrace.errors import ConfigError, DataError
from headrace.preranking.cold import Cold
from headrace.preranking.vector import Vector
from headrace.samples.taught import TEACHER, UNLABELLED
from headrace.training import Training, fit
from headrace.training.distill import Distilled
from tests import tiny

TASKS = ("click", "buy")
STEPS = 40


def build(kind, samples, seed=0, tasks=TASKS, **settings):
    torch.manual_seed(seed)
    package = "preranking" if kind in ("cold", "vector") else "ranking"
    config = Kinds(f"headrace.{package}").find(kind).Config(**settings)
    return config.build(samples.space, tasks)


def config(**settings):
    return Distilled.Config(**{"warm_up": 0, "ramp": 1e-6, **settings})


def late(distilled):
    """The same in the middle of its training."""
    distilled.step.fill_(STEPS // 2)
    return distilled


def backward(model, batch):
    model.zero_grad()
    torch.stack(list(model.loss(batch).values())).sum().backward()
    return {
        name: p.grad.to_dense().clone()
        for name, p in model.named_parameters()
        if p.grad is not None
    }


@pytest.fixture(scope="module")
def batch(tiny_samples):
    rows = tiny_samples.requests("train")[-40:]
    return tiny_samples.batch(tiny_samples.draw(rows, seed=3))


def told(batch, score_NT):
    """The batch with a log of what a teacher said."""
    found = dataclasses.replace(batch.candidates, scores={TEACHER: score_NT})
    return dataclasses.replace(batch, candidates=found)


def test_weight_is_0_then_rises_then_stays():
    settings = Distilled.Config(weight=0.4, warm_up=0.25, ramp=0.5)
    shares = [settings.at(step, 8) for step in range(9)]
    assert shares == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    assert Distilled.Config(warm_up=0, weight=1).at(0, 100) == 0  # whatever the settings
    assert Distilled.Config(weight=0).at(99, 100) == 0


@pytest.mark.parametrize("kind", ["cold", "vector"])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_without_weight_it_is_the_training_without_teacher(kind, weight, tiny_samples, batch):
    student, teacher = build(kind, tiny_samples), build("mlp", tiny_samples)
    alone = copy.deepcopy(student)
    distilled = Distilled(config(weight=weight), student, teacher, STEPS)  # step 0
    alone_grads = backward(alone, batch)
    for name, grad in backward(distilled, batch).items():
        assert torch.equal(grad, alone_grads[name.removeprefix("student.")]), name


def test_the_loss_is_convex_between_label_and_teacher(tiny_samples, batch):
    student, teacher = build("cold", tiny_samples, price=0), build("mlp", tiny_samples, seed=1)
    teacher.eval()
    distilled = late(Distilled(config(weight=0.3), student, teacher, STEPS)).eval()
    got = sum(distilled.loss(batch).values())
    student_NT = batch.sampled(student(batch.requests, batch.candidates))
    said_NT = batch.sampled(teacher(batch.requests, batch.candidates)).sigmoid()
    label_NT = torch.stack([batch.labels[task] for task in TASKS], 1)
    ce = torch.nn.functional.binary_cross_entropy_with_logits
    hard, soft = ce(student_NT, label_NT), ce(student_NT, said_NT.detach())
    torch.testing.assert_close(got, 2 * (0.7 * hard + 0.3 * soft))


def test_a_teacher_trained_before_is_left_alone(tiny_samples, batch):
    student, teacher = build("cold", tiny_samples), build("din", tiny_samples)
    distilled = late(Distilled(config(), student, teacher, STEPS))
    before = copy.deepcopy(teacher.state_dict())
    backward(distilled.train(), batch)
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any(name.startswith(("joint", "teacher")) for name in distilled.state_dict())


def test_a_joint_teacher_learns_from_labels_only(tiny_samples, batch):
    """Its gradient under distillation is, exactly, that of its own loss."""
    student, teacher = build("cold", tiny_samples), build("mlp", tiny_samples, activation="relu")
    alone = copy.deepcopy(teacher)
    distilled = late(Distilled(config(weight=1, joint=True, shared=False), student, teacher, STEPS))
    grads = backward(distilled, batch)
    for name, grad in backward(alone, batch).items():
        assert torch.equal(grads[f"joint.{name}"], grad), name


def test_joint_shares_tables_but_not_those_of_user_ids(tiny_samples, batch):
    student, teacher = build("cold", tiny_samples), build("din", tiny_samples)
    late(Distilled(config(joint=True), student, teacher, STEPS))
    ours, theirs = student.embed.tables, teacher.embed.tables
    assert ours["table_item"] is theirs["table_item"]
    assert ours["table_user_item_count"] is theirs["table_user_item_count"]
    assert ours["table_user"] is not theirs["table_user"]


def test_a_joint_teacher_with_decayed_tables_trains(tiny_samples):
    student, teacher = build("cold", tiny_samples), build("din", tiny_samples, table_l2=0.01)
    batches = tiny_samples.ranking("train", 64)
    teacher.prepare(batches)
    distilled = Distilled(config(joint=True), student, teacher, len(batches))
    assert set(distilled.table_decay()) == {"joint.embed.tables.table_user.weight"}
    assert fit(distilled, batches, Training()).steps == len(batches)


def test_same_seed_same_student(tiny_samples):
    batches = tiny_samples.ranking("train", 64)

    def trained():
        student, teacher = build("cold", tiny_samples), build("mlp", tiny_samples, dropout=0.2)
        fit(Distilled(config(joint=True), student, teacher, len(batches)), batches, Training())
        return student.state_dict()

    first, second = trained(), trained()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_logged_scores_teach_where_they_speak(tiny_samples, batch):
    said_NT = torch.rand(len(batch.candidates), 2, generator=torch.Generator().manual_seed(1))
    said_NT[::2] = torch.nan
    distilled = late(Distilled(config(weight=0.25), build("cold", tiny_samples), None, STEPS))
    labels = distilled.taught(told(batch, said_NT)).labels["buy"]
    assert torch.equal(labels[::2], batch.labels["buy"][::2])
    logit_N = batch.sampled(said_NT.logit())[:, 1]
    wanted_N = 0.75 * batch.labels["buy"] + 0.25 * logit_N.sigmoid()
    torch.testing.assert_close(labels[1::2], wanted_N[1::2])


def test_what_has_no_label_is_learnt_from_the_teacher_alone(tiny_samples, batch):
    said_NT = torch.full((len(batch.candidates), 2), 0.3)
    unlabelled_N = torch.arange(len(batch.candidates)) % 3 == 0
    said_NT[3] = torch.nan  # nobody speaks of it
    whole = told(batch, said_NT)
    features = {**whole.candidates.features, UNLABELLED: unlabelled_N}
    whole = dataclasses.replace(
        whole, candidates=dataclasses.replace(whole.candidates, features=features)
    )
    distilled = Distilled(config(weight=0.25), build("cold", tiny_samples), None, STEPS)
    assert not distilled.taught(whole).weight[unlabelled_N].any()  # at step 0
    taught = late(distilled).taught(whole)
    wanted_N = torch.where(unlabelled_N, 0.25, 1.0)
    wanted_N[3] = 0
    assert torch.equal(taught.weight, wanted_N)
    target_N = batch.sampled(said_NT.logit())[:, 0].sigmoid()
    heard_N = unlabelled_N & (wanted_N > 0)
    torch.testing.assert_close(taught.labels["click"][heard_N], target_N[heard_N])


def test_the_student_has_no_way_to_privileged_features(tiny_log):
    features = {**tiny.SCHEMA["features"], "paid": {"of": "privileged", "column": "buy"}}
    samples = tiny.samples(tiny_log, schema={**tiny.SCHEMA, "features": features})
    rows = samples.requests("train")[-40:]
    batch = samples.batch(samples.draw(rows, seed=3))
    space = samples.space.revealed(["paid"])
    teacher = Cold.Config(hidden=(8,)).build(space, TASKS)
    assert "paid" in teacher.reads_cross
    for settings in (Cold.Config(), Vector.Config()):
        student = settings.build(samples.space, TASKS).eval()
        assert not any("paid" in name for name in student.state_dict())
        before_NT = student.score(batch.requests, batch.candidates)
        batch.candidates.features["paid"].add_(1).remainder_(3)
        assert torch.equal(student.score(batch.requests, batch.candidates), before_NT)


def test_it_scores_nothing_and_asks_for_scores(tiny_samples, batch):
    distilled = late(Distilled(config(), build("cold", tiny_samples), None, STEPS))
    with pytest.raises(DataError, match="no teacher scores: the batches carry none"):
        distilled.loss(batch)


def test_teachers_that_cannot_be(tiny_samples, tiny_log):
    student = build("cold", tiny_samples)
    with pytest.raises(ConfigError, match="the teacher predicts buy, the student click, buy"):
        Distilled(config(), student, build("mlp", tiny_samples, tasks=("buy",)), STEPS)
    features = {**tiny.SCHEMA["features"], "brand": {"of": "item", "encode": "hash", "buckets": 3}}
    other = tiny.samples(tiny_log, schema={**tiny.SCHEMA, "features": features})
    with pytest.raises(ConfigError, match="of another schema: its table_brand has 4 rows"):
        Distilled(config(), student, build("mlp", other), STEPS)
    with pytest.raises(ConfigError, match=r"kind 'lr' reads table_.* 2 wide, the student"):
        Distilled(config(joint=True), student, build("lr", tiny_samples), STEPS)
    with pytest.raises(ConfigError, match="logged scores cannot be trained along"):
        Distilled(config(joint=True), student, None, STEPS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": 1.5}, "less than or equal to 1"),
        ({"weight": -0.1}, "greater than or equal to 0"),
        ({"joint": True, "scores": "s.parquet"}, "joint: the teacher of scores is of an earlier"),
        ({"joint": True, "run": "runs/a"}, "joint: the teacher of run is of an earlier"),
        ({"scheme": "pfd", "scores": "s.parquet"}, 'needs scheme = "md"'),
        ({"run": "a", "scores": "b"}, "one of them teaches"),
        ({"privileged": ("dwell",)}, 'scheme = "md" reads none'),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValidationError, match=message):
        Distilled.Config(**settings)
