from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from headrace.errors import DataError
from headrace.training import Training, fit
from headrace.training.observers import progress_bars
from headrace.training.scalars import ScalarLog
from tests.training.tiny import TinyBatches, TinyRanker, click_accuracy


def curves(directory: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(directory))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_tensorboard_reads_the_scalars(tmp_path: Path):
    config = Training(epochs=4, warmup_steps=20)
    history = fit(
        TinyRanker(), TinyBatches(), config, validate=click_accuracy, scalars_dir=tmp_path
    )
    read = curves(tmp_path)
    names = ("loss", "loss_click", "loss_buy", "samples_per_s", "learning_rate", "gradient_norm")
    assert read.keys() == {*(f"train/{name}" for name in names), "validation/metric"}
    assert read["train/loss"] == [
        (step, pytest.approx(history.loss[step - 1])) for step in (1, 11, 21)
    ]
    assert read["train/learning_rate"] == [
        (1, pytest.approx(1e-3 / 20)),
        (11, pytest.approx(1e-3 * 11 / 20)),
        (21, pytest.approx(1e-3)),
    ]
    assert read["validation/metric"] == [
        (step, pytest.approx(value)) for step, value in history.validation
    ]
    assert all(value > 0 for _, value in read["train/samples_per_s"])


def test_a_resumed_run_takes_back_what_it_repeats(tmp_path: Path):
    config = Training(epochs=2, checkpoint_every_s=1e9)

    def crash(epoch: int, step: int) -> None:
        if epoch == 3:
            raise OSError("power cut")

    where = {"checkpoint_dir": tmp_path / "checkpoint", "scalars_dir": tmp_path / "scalars"}
    fit(TinyRanker(), TinyBatches(), config, validate=click_accuracy, **where)
    longer = config.model_copy(update={"epochs": 5, "patience": 0})
    with pytest.raises(OSError, match="power cut"):
        fit(TinyRanker(), TinyBatches(on_step=crash), longer, validate=click_accuracy, **where)
    fit(TinyRanker(), TinyBatches(), longer, validate=click_accuracy, **where)
    read = curves(tmp_path / "scalars")
    assert [step for step, _ in read["train/loss"]] == [1, 11, 21]
    assert [step for step, _ in read["validation/metric"]] == [6, 12, 18, 24, 30]


def test_scalars_that_cannot_be_written_are_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: scalars cannot be written"):
        ScalarLog(tmp_path / "file", 0)


def shown(terminal: bool) -> tuple[str, Progress]:
    console = Console(file=StringIO(), force_terminal=terminal, width=120)
    with progress_bars(console) as progress:
        for name in ("ranking.din", "retrieval.two_tower"):
            config = Training(epochs=9, patience=1)
            fit(
                TinyRanker(),
                TinyBatches(),
                config,
                validate=lambda model: 0.25,
                progress=progress,
                name=name,
            )
    return console.file.getvalue(), progress


def test_one_bar_a_run_says_what_happens():
    text, progress = shown(terminal=True)
    assert [task.description.split("  ")[0] for task in progress.tasks] == [
        "ranking.din",
        "retrieval.two_tower",
    ]
    for part in ("epoch 2/9", "loss ", "validation 0.2500", "rows/s"):
        assert part in progress.tasks[0].description
        assert part in text
    assert all(task.finished for task in progress.tasks), "an early stop is the end"


def test_without_a_terminal_nothing_is_shown():
    text, progress = shown(terminal=False)
    assert text.strip() == "" and progress.tasks == []


def test_a_run_that_fails_leaves_its_bar_where_it_was():
    console = Console(file=StringIO(), force_terminal=True, width=120)

    def crash(epoch: int, step: int) -> None:
        if step == 4:
            raise OSError("power cut")

    with progress_bars(console) as progress, pytest.raises(OSError, match="power cut"):
        fit(TinyRanker(), TinyBatches(on_step=crash), Training(), progress=progress)
    assert (progress.tasks[0].completed, progress.tasks[0].total) == (4, 6)
