"""Run by torchrun: train the tiny models in this process's group; each one writes what it got."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from headrace.data import Batch
from headrace.errors import DataError
from headrace.training import History, Training, fit
from headrace.training.distributed import Group, join
from tests.training.tiny import TinyBatches, TinyRanker, TinyTowers, click_accuracy

TOWERS = Training(epochs=3, learning_rate=0.01, table_optimizer="sparse_adam", clip_norm=0.5)
RANKER = Training(epochs=3, learning_rate=0.01, table_learning_rate=0.1, validate_every=4)


def train(group: Group, directory: Path) -> dict[str, tuple[nn.Module, History]]:
    """Both models, each process starting from weights of its own."""
    ranker, towers = TinyRanker(seed=group.rank), TinyTowers(seed=group.rank)
    return {
        "ranker": (
            ranker,
            fit(
                ranker,
                TinyBatches(),
                RANKER,
                validate=click_accuracy,
                checkpoint_dir=directory,
                group=group,
            ),
        ),
        "towers": (towers, fit(towers, TinyBatches(), TOWERS, group=group)),
    }


class SpoiltInOne(TinyRanker):
    """Not finite in the last process only."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.factor = torch.nan if group.rank == group.size - 1 else 1.0

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        return {task: loss * self.factor for task, loss in super().loss(batch).items()}


def errors(group: Group, directory: Path) -> list[str]:
    """What every process must hear of, whichever it happened to."""
    messages: list[str] = []
    for model, checkpoint_dir in ((SpoiltInOne(group), None), (TinyRanker(), directory)):
        try:
            fit(model, TinyBatches(), RANKER, checkpoint_dir=checkpoint_dir, group=group)
        except DataError as error:
            messages.append(str(error))
    return messages


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    with join() as here:
        found = {
            name: (model.state_dict(), history.loss, history.validation)
            for name, (model, history) in train(here, out / "run").items()
        }
        torch.save((found, errors(here, out / "damaged")), out / f"rank{here.rank}.pt")
    left = [each.read_text().strip() for each in Path("/proc/self/task").glob("*/comm")]
    assert not any("gloo" in name for name in left), left  # one at exit may abort the process
