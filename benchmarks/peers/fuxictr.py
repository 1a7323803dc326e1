"""FuxiCTR's DIN, DIEN and SIM out of its wheel's ``model_zoo``, by their own ``train_step``."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from model_zoo.LongCTR.DIEN.DIEN import DIEN
from model_zoo.LongCTR.DIN.DIN import DIN
from model_zoo.LongCTR.SIM.SIM import SIM

from benchmarks.peers._data import Array, Data
from benchmarks.peers._serve import Stepper, serve
from benchmarks.peers._start import begin, tables_of

DIM = 16
COMMON: dict[str, Any] = {
    "dnn_hidden_units": [128, 64],
    "embedding_dim": DIM,
    "optimizer": "adam",
    "loss": "binary_crossentropy",
    "task": "binary_classification",
    "metrics": ["AUC"],
    "verbose": 0,
    "net_dropout": 0,
    "batch_norm": False,
}
MODELS: dict[str, tuple[Any, dict[str, Any], bool, str]] = {
    "din": (
        DIN,
        {"attention_hidden_units": [64, 16], "attention_hidden_activations": "ReLU"},
        True,
        "attention 64, Dice -> 64-16, ReLU; DNN 512-128-64 -> 128-64",
    ),
    "dien": (
        DIEN,
        {"gru_type": "AUGRU", "attention_type": "bilinear_attention"},
        True,
        "DNN 200-80 with batch norm -> 128-64 without; it has no auxiliary loss, nor has ours here",
    ),
    "sim": (
        SIM,
        {"attention_dim": 32, "num_heads": 2, "topk": 50, "short_seq_len": 50},
        False,
        "soft search; its recent part is multi-head attention, not DIN's unit, and its search "
        "learns on all events",
    ),
}


class FuxiCTR(Stepper):
    """Batches are what its LongCTR loader yields: (columns, flattened items, mask)."""

    def __init__(self, data: Data, given: Namespace) -> None:
        torch.set_num_threads(given.threads)
        torch.manual_seed(given.seed)
        kind, settings, equal, notes = MODELS[given.model]
        self.about = {"equal": equal, "notes": notes}
        self.data, self.length = data, given.length
        folder = tempfile.mkdtemp()
        features = FeatureMap("data", folder)
        features.labels = ["label"]
        features.default_emb_dim = DIM
        features.features = OrderedDict(
            (name, {"type": "categorical", "source": source, "vocab_size": rows, "padding_idx": 0})
            for name, source, rows in (
                ("user", "user", data.num_users),
                ("item", "item", data.num_items),
                ("category", "item", data.num_categories),
            )
        )
        self.model = kind(
            features,
            model_id=given.model,
            learning_rate=given.rate,
            model_root=folder,
            **COMMON,
            **settings,
        )
        self.model._max_gradient_norm = 10.0
        self.model._batch_index = 0
        begin(tables_of(self.model), given.start)
        self.model.train()

    def batch(self, rows: Array) -> Any:
        """As ``LongCTRDataLoader`` makes them, padded before, cut to the longest of the batch."""
        item_NL, length_N = self.data.histories(rows, self.length)
        longest = max(int(length_N.max()), 1)
        shift_NL = np.arange(longest) - (longest - length_N)[:, None]
        ahead_NL = np.take_along_axis(item_NL, np.maximum(shift_NL, 0), 1) * (shift_NL >= 0)
        flat = np.hstack([ahead_NL, self.data.item_N[rows][:, None]]).ravel()
        columns = {
            "user": torch.from_numpy(self.data.user_N[rows]),
            "label": torch.from_numpy(self.data.label_N[rows]),
        }
        items = {
            "item": torch.from_numpy(flat),
            "category": torch.from_numpy(self.data.category_I[flat]),
        }
        return columns, items, torch.from_numpy((ahead_NL > 0).astype(np.float32))

    def step(self, batch: Any) -> None:
        """One step."""
        self.model.train_step(batch)

    def predict(self, rows: Array) -> Array:
        """Probabilities."""
        self.model.eval()
        with torch.no_grad():
            score = self.model.forward(self.batch(rows))["y_pred"]
        self.model.train()
        return score.numpy().ravel()


if __name__ == "__main__":
    serve(FuxiCTR)
