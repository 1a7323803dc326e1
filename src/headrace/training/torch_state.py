"""The settings of PyTorch that belong to the process: random state and threads."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch


def seed(*words: int) -> None:
    """Seed PyTorch from several numbers. Done before every step: resuming has none to restore."""
    mixed = int(np.random.SeedSequence(words).generate_state(1)[0])
    torch.default_generator.manual_seed(mixed)  # 1 us; torch.manual_seed takes 100 to the same end
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(mixed)


@contextmanager
def threads(number: int) -> Generator[None]:
    """Run with this many threads; 0 leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
