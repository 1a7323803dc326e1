from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from headrace.data import Batch
from headrace.errors import ConfigError, DataError
from headrace.training import History, Training, fit
from headrace.training.loop import _Run
from tests.training.tiny import TinyBatches, TinyRanker, click_accuracy

HARD = Training(
    epochs=2,
    learning_rate=0.02,
    table_learning_rate=0.1,
    weight_decay=0.1,
    clip_norm=0.5,
    warmup_steps=3,
    decay=0.9,
    validate_every=4,
    patience=0,
)


def hard_model() -> TinyRanker:
    return TinyRanker(dropout=0.3, norm=True)


def at(epoch: int, step: int, do: Callable[[], None]) -> Callable[[int, int], None]:
    return lambda e, s: do() if (e, s) == (epoch, step) else None


def interrupt() -> None:
    raise KeyboardInterrupt


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def run(directory: Path | None, **settings: object) -> tuple[TinyRanker, History]:
    model = hard_model()
    config = HARD.model_copy(update=settings)
    history = fit(model, TinyBatches(), config, validate=click_accuracy, checkpoint_dir=directory)
    return model, history


def assert_same(one: tuple[nn.Module, History], other: tuple[nn.Module, History]) -> None:
    assert one[1].loss == other[1].loss
    assert one[1].validation == other[1].validation
    assert one[1].samples == other[1].samples
    for (name, a), b in zip(
        one[0].state_dict().items(), other[0].state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


def test_a_model_learns():
    model = TinyRanker()
    config = Training(epochs=10, learning_rate=0.03, table_learning_rate=0.2, patience=0)
    history = fit(model, TinyBatches(), config, validate=click_accuracy)
    assert history.steps == 60
    assert sum(history.loss[-6:]) < 0.5 * sum(history.loss[:6])
    assert history.best is not None and history.best[1] > 0.8
    assert click_accuracy(model) == history.best[1]
    assert not model.training


@pytest.mark.parametrize("stop", [interrupt, press_ctrl_c])
@pytest.mark.parametrize("epoch_and_step", [(0, 0), (0, 4), (1, 0), (1, 2)])
def test_a_run_stopped_anywhere_continues_bit_for_bit(
    tmp_path: Path, stop: Callable[[], None], epoch_and_step: tuple[int, int]
):
    with pytest.raises(KeyboardInterrupt):
        fit(
            hard_model(),
            TinyBatches(on_step=at(*epoch_and_step, stop)),
            HARD,
            validate=click_accuracy,
            checkpoint_dir=tmp_path,
        )
    assert_same(run(tmp_path), run(None))


def test_ctrl_c_behind_a_running_mean_waits_for_the_step(tmp_path: Path):
    """Else the step would be taken again over means that it has moved already."""
    model, passes = hard_model(), iter(range(100))
    norm = model.mlp[1]

    def press_in_the_fourth(*_: object) -> None:
        if next(passes) == 3:
            press_ctrl_c()

    norm.register_forward_hook(press_in_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        fit(model, TinyBatches(), HARD, validate=click_accuracy, checkpoint_dir=tmp_path)
    assert_same(run(tmp_path), run(None))


@pytest.mark.parametrize(
    ("optimizer", "table_optimizer"),
    [("adamw", "rowwise_adagrad"), ("adagrad", "sparse_adam"), ("sgd", "sgd")],
)
def test_every_optimiser_continues_bit_for_bit(
    tmp_path: Path, optimizer: str, table_optimizer: str
):
    settings = {"optimizer": optimizer, "table_optimizer": table_optimizer}
    _, first = run(tmp_path, epochs=1, **settings)
    assert first.steps == 6
    assert_same(run(tmp_path, **settings), run(None, **settings))


def test_a_validation_that_was_interrupted_is_made_up_for(tmp_path: Path):
    def stop(model: nn.Module) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(hard_model(), TinyBatches(), HARD, validate=stop, checkpoint_dir=tmp_path)
    assert_same(run(tmp_path), run(None))


def test_a_crash_costs_no_more_than_the_steps_since_the_checkpoint(tmp_path: Path):
    def crash() -> None:
        raise OSError("power cut")

    every_step = HARD.model_copy(update={"checkpoint_every_s": 0.0})
    batches = TinyBatches(on_step=at(1, 3, crash))
    with pytest.raises(OSError, match="power cut"):
        fit(hard_model(), batches, every_step, validate=click_accuracy, checkpoint_dir=tmp_path)
    asked: list[tuple[int, int]] = []
    model = hard_model()
    batches = TinyBatches(on_step=lambda e, s: asked.append((e, s)))
    history = fit(model, batches, HARD, validate=click_accuracy, checkpoint_dir=tmp_path)
    assert asked[0] == (1, 3)
    assert_same((model, history), run(None))


def test_a_finished_run_answers_at_once(tmp_path: Path):
    finished = run(tmp_path)
    model = hard_model()
    batches = TinyBatches(on_step=lambda e, s: pytest.fail("trained again"))
    history = fit(model, batches, HARD, validate=click_accuracy, checkpoint_dir=tmp_path)
    assert_same((model, history), finished)
    assert history.seconds == finished[1].seconds


def test_patience_ends_training_and_the_best_weights_stay():
    scores, seen = iter([0.1, 0.5, 0.4, 0.5, 0.9]), list[Tensor]()

    def scripted(model: nn.Module) -> float:
        assert not model.training and not torch.is_grad_enabled()
        seen.append(model.item.weight.clone())
        return next(scores)

    model = TinyRanker()
    history = fit(model, TinyBatches(2), Training(epochs=9, patience=2), validate=scripted)
    assert history.validation == [(2, 0.1), (4, 0.5), (6, 0.4), (8, 0.5)]
    assert history.best == (4, 0.5)
    assert torch.equal(model.item.weight, seen[1])


def test_without_validation_the_last_weights_stay():
    assert fit(TinyRanker(), TinyBatches(2), Training(epochs=3)).validation == []


def test_the_seed_decides_what_is_random_in_the_model():
    first, again, other = run(None), run(None), run(None, seed=2)
    assert_same(first, again)
    assert first[1].loss != other[1].loss


def test_threads_are_those_of_before():
    before = torch.get_num_threads()
    seen: list[int] = []

    def score(_: nn.Module) -> float:
        seen.append(torch.get_num_threads())
        return 0.0

    fit(TinyRanker(), TinyBatches(1), Training(threads=before + 1), validate=score)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


class Spoilt(TinyRanker):
    """Goes wrong from the third loss on."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.how, self.calls = how, 0

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        self.calls += 1
        losses = dict(super().loss(batch))
        return losses if self.calls < 3 else {**losses, "buy": self.how(losses["buy"])}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda loss: loss * torch.nan, "buy = nan"),
        (lambda loss: loss / 0, "buy = inf"),
        (lambda loss: (loss * 0).sqrt(), "buy = 0, gradient norm = nan"),
    ],
)
def test_a_loss_that_is_not_finite_is_named_and_not_learned(
    how: Callable[[Tensor], Tensor], said: str
):
    model = Spoilt(how)
    with pytest.raises(DataError) as error:
        fit(model, TinyBatches(), Training(), name="ranking.tiny")
    message = str(error.value)
    assert message.startswith(
        "ranking.tiny: step 3 (epoch 1): loss or gradient is not finite: click"
    )
    assert said in message and "lower the learning rates" in message and "\n" not in message
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_a_validation_that_is_not_finite_is_named():
    with pytest.raises(DataError, match=r"tiny: step 2: validation gave nan"):
        fit(TinyRanker(), TinyBatches(2), Training(), validate=lambda m: torch.nan, name="tiny")


def test_no_batches_is_an_answer():
    with pytest.raises(DataError, match="no batches to train on; is the training period empty"):
        fit(TinyRanker(), TinyBatches(0), Training())


def test_a_wrong_number_of_batches_is_a_bug():
    class Short(TinyBatches):
        def __len__(self) -> int:
            return self.steps + 1

    with pytest.raises(ValueError, match="shorter"):
        fit(TinyRanker(), Short(2), Training())


def test_only_modules_are_trained():
    class NoModule:
        def loss(self, batch: Batch) -> Mapping[str, Tensor]:
            return {}

    with pytest.raises(TypeError, match=r"not an nn\.Module"):
        fit(NoModule(), TinyBatches(2), Training())


def test_a_checkpoint_of_other_settings_or_data_is_refused(tmp_path: Path):
    run(tmp_path)
    with pytest.raises(
        ConfigError, match=r"another settings: learning_rate is 0\.5 here, 0\.02 there"
    ):
        run(tmp_path, learning_rate=0.5)
    with pytest.raises(ConfigError, match="steps an epoch is 5 here, 6 there; delete it"):
        fit(hard_model(), TinyBatches(5), HARD, checkpoint_dir=tmp_path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path):
    run(tmp_path)
    model = hard_model()
    model.item = nn.Embedding(61, 6, sparse=True)
    with pytest.raises(
        ConfigError, match=r"another model: item.weight is \(61, 6\) here, \(60, 6\)"
    ):
        fit(model, TinyBatches(), HARD, checkpoint_dir=tmp_path)


def test_batches_go_where_the_model_is():
    model = TinyRanker().to("meta")
    elsewhere = _Run(model, model.loss, TinyBatches(), Training(), None, None, "", None)
    batch = elsewhere._on_device(next(TinyBatches().epoch(0)))
    assert batch.weight.device.type == batch.candidates.item_id.offsets.device.type == "meta"
