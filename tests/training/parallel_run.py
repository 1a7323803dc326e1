"""Run by torchrun: train the tiny models in this process's group; the first one writes the result."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tests.training.tiny import TinyBatches, TinyRanker, TinyTowers, click_accuracy
from torch import nn

from headrace.training import History, Training, fit
from headrace.training.distributed import Group, join

TOWERS = Training(epochs=3, learning_rate=0.01, table_optimizer="sparse_adam", clip_norm=0.5)
RANKER = Training(epochs=3, learning_rate=0.01, table_learning_rate=0.1, validate_every=4)


def train(group: Group, directory: Path) -> dict[str, tuple[nn.Module, History]]:
    """Both models, each process starting from weights of its own."""
    ranker, towers = TinyRanker(seed=group.rank), TinyTowers(seed=group.rank)
    batches = TinyBatches()
    return {
        "ranker": (
            ranker,
            fit(
                ranker,
                batches,
                RANKER,
                validate=click_accuracy,
                checkpoint_dir=directory / "ranker",
                group=group,
            ),
        ),
        "towers": (towers, fit(towers, batches, TOWERS, group=group)),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    with join() as here:
        trained = train(here, out)
        torch.save(
            {
                name: (model.state_dict(), history.loss, history.validation)
                for name, (model, history) in trained.items()
            },
            out / f"rank{here.rank}.pt",
        )
