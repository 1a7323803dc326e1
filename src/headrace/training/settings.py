"""How long and how fast a model learns; what it learns from is the business of its batches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..config import Config


class Training(Config):
    """Settings of one run of the loop. A step is one batch."""

    epochs: int = Field(default=1, ge=1, le=10_000)
    """Passes over the data. Models with fine ids overfit after the first (DIN, fig. 4)."""
    optimizer: Literal["adamw", "adagrad", "sgd"] = "adamw"
    """Rule for dense parameters."""
    learning_rate: float = Field(default=1e-3, gt=0, le=100)
    """Of dense parameters."""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Of dense matrices; biases and scales are spared. adamw decouples it from the gradient."""
    table_optimizer: Literal["rowwise_adagrad", "sparse_adam", "sgd"] = "rowwise_adagrad"
    """Rule for embedding tables with sparse gradients; it visits only the rows a batch touched."""
    table_learning_rate: float = Field(default=0.02, gt=0, le=100)
    """Of embedding tables."""
    clip_norm: float = Field(default=0.0, ge=0)
    """Largest norm of all gradients together; 0 does not clip."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which both learning rates rise linearly to their value."""
    decay: float = Field(default=1.0, gt=0, le=1)
    """Factor on both learning rates after each epoch (DIN: 0.9)."""
    validate_every: int = Field(default=0, ge=0)
    """Steps between validations, besides the one that ends each epoch; 0 has only those."""
    patience: int = Field(default=2, ge=0)
    """Validations in a row without a new best after which training stops; 0 never stops early."""
    checkpoint_every_s: float = Field(default=300.0, ge=0)
    """Seconds between checkpoints; 0 writes one after every step."""
    seed: int = Field(default=1, ge=0)
    """Of everything random inside the model, dropout for one."""
    threads: int = Field(default=0, ge=0, le=1024)
    """Threads of PyTorch during training; 0 leaves them as they are."""

    def rate(self, step: int, epoch: int) -> float:
        """The factor on both learning rates in step ``step``, counted from 0."""
        return min(1.0, (step + 1) / max(self.warmup_steps, 1)) * self.decay**epoch

    def shaping(self) -> dict[str, object]:
        """The settings that a resumed run must share with the run it continues."""
        free = {"epochs", "patience", "checkpoint_every_s", "threads"}
        return self.model_dump(mode="json", exclude=free)
