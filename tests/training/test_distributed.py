from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from headrace.training import fit
from headrace.training.distributed import ALONE, join, shard
from tests.training.parallel_run import RANKER, train
from tests.training.tiny import TinyBatches, TinyRanker, tiny_batch


@pytest.mark.parametrize(("requests", "world"), [(8, 2), (8, 3), (1, 2), (2, 3)])
def test_shares_have_the_mean_loss_and_gradient_of_the_whole(requests: int, world: int):
    batch = tiny_batch(5, requests)
    model = TinyRanker()
    whole = _gradients(model, model.loss(batch))
    parts = [shard(batch, rank, world) for rank in range(world)]
    assert all(len(part.requests) > 0 for part in parts)
    total = [torch.zeros_like(g) for g in whole]
    for part in parts:
        shares = _gradients(model, model.loss(part))
        total = [t + g / world for t, g in zip(total, shares, strict=True)]
    for ours, theirs in zip(total, whole, strict=True):
        torch.testing.assert_close(ours, theirs)


def _gradients(model: TinyRanker, losses: dict[str, Tensor]) -> list[Tensor]:
    used = [p for name, p in model.named_parameters() if not name.startswith("unused")]
    found = torch.autograd.grad(sum(losses.values()), used)
    return [g.to_dense() if g.is_sparse else g for g in found]


def test_shares_hold_every_request_once_and_the_pool_whole():
    batch = tiny_batch(3, 7)
    parts = [shard(batch, rank, 3) for rank in range(3)]
    assert torch.equal(torch.cat([p.requests.time_ms for p in parts]), batch.requests.time_ms)
    items = torch.cat([p.candidates.item_id.values for p in parts])
    assert torch.equal(items, batch.candidates.item_id.values)
    assert all(torch.equal(p.pool, batch.pool) for p in parts)


def test_without_torchrun_a_process_is_alone():
    with join() as group:
        assert group == ALONE


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which torchrun's two processes left what they got."""
    folder = tmp_path_factory.mktemp("two_processes")
    (folder / "damaged").mkdir()
    (folder / "damaged" / "checkpoint.pt").write_bytes(b"not a checkpoint")
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    run += ["--standalone", "-m", "tests.training.parallel_run", str(folder)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_two_processes_train_as_one(two_processes: Path, tmp_path: Path):
    (first, _), (second, _) = (torch.load(two_processes / f"rank{rank}.pt") for rank in (0, 1))
    for name, (model, history) in train(ALONE, tmp_path).items():
        weights, loss, validation = first[name]
        assert loss == pytest.approx(history.loss, abs=1e-5)
        assert [v for _, v in validation] == pytest.approx([v for _, v in history.validation])
        assert loss[-1] < loss[0]
        for key, value in model.state_dict().items():
            torch.testing.assert_close(weights[key], value, rtol=1e-3, atol=1e-4)
            assert torch.equal(weights[key], second[name][0][key]), "processes drifted apart"


def test_one_process_takes_up_the_checkpoint_of_two(two_processes: Path):
    (found, _) = torch.load(two_processes / "rank0.pt")
    weights, loss, _ = found["ranker"]
    model = TinyRanker()
    batches = TinyBatches(on_step=lambda e, s: pytest.fail("trained again"))
    history = fit(model, batches, RANKER, checkpoint_dir=two_processes / "run")
    assert history.loss == loss
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_what_goes_wrong_in_one_process_is_heard_in_all(two_processes: Path):
    said = [torch.load(two_processes / f"rank{rank}.pt")[1] for rank in (0, 1)]
    assert said[0] == said[1]
    not_finite, damaged = said[0]
    assert "step 1 (epoch 1): loss or gradient is not finite: click = nan" in not_finite
    assert "checkpoint is damaged" in damaged
