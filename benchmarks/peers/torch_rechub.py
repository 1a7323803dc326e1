"""torch-rechub's DIN and DIEN, by the body of their own trainer."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import torch
from torch import Tensor, nn
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.basic.layers import MLP
from torch_rechub.models.ranking import DIEN, DIN
from torch_rechub.models.ranking.din import ActivationUnit

from benchmarks.peers._data import Array, Data
from benchmarks.peers._serve import Stepper, serve
from benchmarks.peers._start import begin, tables_of

DIM = 16


class JointDIN(DIN):
    """Its DIN has a unit a field; the network asked for has one over all fields of an event."""

    def __init__(self, features: Any, history: Any, target: Any) -> None:
        attention = {"dims": [64, 16], "activation": "relu"}
        super().__init__(features, history, target, {"dims": [128, 64]}, attention)
        self.attention_layers = nn.ModuleList([ActivationUnit(2 * DIM, **attention)])
        self.mlp = MLP(5 * DIM, dims=[128, 64], activation="relu")
        for part in (self.attention_layers[0].attention, self.mlp):
            part.mlp = nn.Sequential(*(m for m in part.mlp if not isinstance(m, nn.BatchNorm1d)))

    def forward(self, x: Any) -> Tensor:
        """As DIN.forward, fields side by side."""
        other_NX = self.embedding(x, self.features).flatten(1)
        event_NLD = self.embedding(x, self.history_features).transpose(1, 2).flatten(2)
        target_ND = self.embedding(x, self.target_features).flatten(1)
        interest_ND = self.attention_layers[0](event_NLD, target_ND)
        logit = self.mlp(torch.cat([interest_ND, target_ND, other_NX], dim=1))
        return torch.sigmoid(logit.squeeze(1))


NOTES = {
    "din": "a unit a field -> one over both; batch norm, also inside the unit, taken out; DNN's "
    "Dice -> ReLU",
    "dien": "a pair of GRUs of width 16 a field, not one of width 32; DNN with batch norm and Dice",
}


class TorchRechub(Stepper):
    """Batches are dicts of padded columns."""

    def __init__(self, data: Data, given: Namespace) -> None:
        torch.set_num_threads(given.threads)
        torch.manual_seed(given.seed)
        self.about = {"equal": given.model == "din", "notes": NOTES[given.model]}
        self.data, self.length = data, given.length
        rows = {"item": data.num_items, "category": data.num_categories}
        features = [SparseFeature("user", data.num_users, DIM)]
        target = [SparseFeature(n, r, DIM, padding_idx=0) for n, r in rows.items()]
        history, other = (
            [
                SequenceFeature(f"{kind}_{n}", r, DIM, "concat", shared_with=n, padding_idx=0)
                for n, r in rows.items()
            ]
            for kind in ("hist", "neg")
        )
        self.model: nn.Module
        if given.model == "din":
            self.model = JointDIN(features, history, target)
        else:
            self.model = DIEN(features, history, other, target, {"dims": [128, 64]}, alpha=0.0)
        self.loss = nn.BCELoss()
        begin(tables_of(self.model), given.start)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=given.rate)
        self.model.train()

    def batch(self, rows: Array) -> Any:
        """Its columns, and the labels."""
        columns = self.data.columns(rows, self.length)
        del columns["length"]
        columns |= {f"neg_{name}": columns[f"hist_{name}"] for name in ("item", "category")}
        tensors = {name: torch.from_numpy(column) for name, column in columns.items()}
        return tensors, torch.from_numpy(self.data.label_N[rows])

    def step(self, batch: Any) -> None:
        """The body of the loop in ``CTRTrainer.train_one_epoch``."""
        columns, label_N = batch
        found = self.model(columns)
        score_N, auxiliary = found if isinstance(found, tuple) else (found, 0.0)
        loss = self.loss(score_N, label_N) + auxiliary
        self.model.zero_grad()
        loss.backward()
        self.optimizer.step()

    def predict(self, rows: Array) -> Array:
        """Probabilities."""
        self.model.eval()
        with torch.no_grad():
            found = self.model(self.batch(rows)[0])
        self.model.train()
        return (found[0] if isinstance(found, tuple) else found).numpy().ravel()


if __name__ == "__main__":
    serve(TorchRechub)
