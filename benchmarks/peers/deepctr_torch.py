"""DeepCTR-Torch's DIN and DIEN, by the body of their own ``fit``."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import numpy as np
import torch
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat, get_feature_names
from deepctr_torch.models import DIEN, DIN
from torch.nn import functional as F

from benchmarks.peers._data import Array, Data
from benchmarks.peers._serve import Stepper, serve
from benchmarks.peers._start import begin, tables_of

DIM = 16
COMMON: dict[str, Any] = {
    "dnn_hidden_units": (128, 64),
    "dnn_activation": "relu",
    "l2_reg_embedding": 0,
}
MODELS: dict[str, tuple[Any, dict[str, Any], bool, str]] = {
    "din": (
        DIN,
        {"att_hidden_size": (64, 16), "att_activation": "relu", "att_weight_normalization": False},
        True,
        "attention's Dice -> ReLU; DNN 256-128 -> 128-64; no L2",
    ),
    "dien": (
        DIEN,
        {"gru_type": "AUGRU", "att_hidden_units": (64, 16), "att_activation": "relu"},
        False,
        "its attention is DIN's unit 64-16, not a bilinear form; no auxiliary loss",
    ),
}


class DeepCTR(Stepper):
    """Batches are rows of one float matrix, as its ``fit`` cuts them."""

    def __init__(self, data: Data, given: Namespace) -> None:
        torch.set_num_threads(given.threads)
        kind, settings, equal, notes = MODELS[given.model]
        self.about = {"equal": equal, "notes": notes}
        self.data, self.length = data, given.length
        plain = {
            "user": data.num_users,
            "item": data.num_items,
            "category": data.num_categories,
        }
        columns: list[Any] = [SparseFeat(n, r, embedding_dim=DIM) for n, r in plain.items()]
        for name in ("item", "category"):
            events = SparseFeat(f"hist_{name}", plain[name], DIM, embedding_name=name)
            columns.append(VarLenSparseFeat(events, given.length, length_name="length"))
        self.names = get_feature_names(columns)
        self.model = kind(columns, ["item", "category"], seed=given.seed, **COMMON, **settings)
        self.model.compile("adam", "binary_crossentropy")
        for group in self.model.optim.param_groups:
            group["lr"] = given.rate
        begin(tables_of(self.model), given.start)
        self.model.train()

    def batch(self, rows: Array) -> Any:
        """Its matrix of floats, and the labels."""
        columns = self.data.columns(rows, self.length)
        parts = [columns[name].reshape(len(rows), -1) for name in self.names]
        matrix = np.concatenate(parts, axis=1).astype(np.float32)
        return torch.from_numpy(matrix), torch.from_numpy(self.data.label_N[rows])

    def step(self, batch: Any) -> None:
        """The body of the loop in ``BaseModel.fit``."""
        model, (x, label_N) = self.model, batch
        score_N = model(x).squeeze(-1)
        model.optim.zero_grad()
        loss = F.binary_cross_entropy(score_N, label_N, reduction="sum")
        total = loss + model.get_regularization_loss() + model.aux_loss
        total.backward()
        model.optim.step()

    def predict(self, rows: Array) -> Array:
        """Probabilities."""
        self.model.eval()
        with torch.no_grad():
            score = self.model(self.batch(rows)[0])
        self.model.train()
        return score.numpy().ravel()


if __name__ == "__main__":
    serve(DeepCTR)
