"""RecBole's DIN and its layers, by the body of its own trainer."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.layers import FMEmbedding, MLPLayers, SequenceAttLayer
from recbole.model.sequential_recommender import DIN
from recbole.utils import FeatureType
from torch import Tensor, nn

from benchmarks.peers._data import Array, Data
from benchmarks.peers._serve import Stepper, serve
from benchmarks.peers._start import begin

DIM = 16


@dataclass
class Columns:
    """What its models ask of a data set."""

    data: Data
    config: dict[str, Any]

    @property
    def field2type(self) -> dict[str, Any]:
        return dict.fromkeys(("user", "item", "category"), FeatureType.TOKEN)

    def num(self, field: str) -> int:
        sizes = {"user": self.data.num_users, "category": self.data.num_categories}
        return sizes.get(field, self.data.num_items)

    def get_user_feature(self) -> Interaction:
        return Interaction({"user": torch.arange(self.data.num_users)})

    def get_item_feature(self) -> Interaction:
        category_I = torch.from_numpy(self.data.category_I)
        return Interaction({"item": torch.arange(self.data.num_items), "category": category_I})


class FullDIN(DIN):
    """Its DIN reads no user and has one list of widths; this one is what was asked for."""

    def __init__(self, config: dict[str, Any], dataset: Columns) -> None:
        super().__init__(config, dataset)
        self.attention = SequenceAttLayer(
            torch.arange(self.max_seq_length).view(1, -1),
            [8 * DIM, 64, 16],
            activation="relu",
            return_seq_weight=False,
        )
        self.dnn_mlp_layers = MLPLayers([5 * DIM, 128, 64], activation="relu")
        self.dnn_predict_layers = nn.Linear(64, 1)
        self.apply(self._init_weights)

    def forward(
        self, user: Tensor, item_seq: Tensor, item_seq_len: Tensor, next_items: Tensor
    ) -> Tensor:
        """As DIN.forward, with the user and without the product in the DNN."""
        items = torch.cat((item_seq, next_items.unsqueeze(1)), dim=-1)
        sparse, _ = self.embedding_layer(user, items)
        user_ND, item_NLD = sparse["user"].flatten(-2), sparse["item"].flatten(-2)
        event_NLD, target_N1D = item_NLD.split([item_seq.shape[1], 1], dim=1)
        target_ND = target_N1D.squeeze(1)
        interest_ND = self.attention(target_ND, event_NLD, item_seq_len).squeeze(1)
        hidden = self.dnn_mlp_layers(torch.cat([interest_ND, target_ND, user_ND], dim=-1))
        return self.dnn_predict_layers(hidden).squeeze(1)


class RecBole(Stepper):
    """Batches are its Interactions."""

    def __init__(self, data: Data, given: Namespace) -> None:
        torch.set_num_threads(given.threads)
        torch.manual_seed(given.seed)
        self.about = {
            "equal": True,
            "notes": "one list of widths for both networks -> 64-16 and 128-64; user into the DNN, "
            "product out of it; Sigmoid and Dice -> ReLU; batch norm out",
        }
        config: dict[str, Any] = {
            "USER_ID_FIELD": "user",
            "ITEM_ID_FIELD": "item",
            "LIST_SUFFIX": "_list",
            "ITEM_LIST_LENGTH_FIELD": "item_length",
            "NEG_PREFIX": "neg_",
            "MAX_ITEM_LIST_LENGTH": given.length,
            "LABEL_FIELD": "label",
            "device": torch.device("cpu"),
            "embedding_size": DIM,
            "mlp_hidden_size": [128, 64],
            "pooling_mode": "mean",
            "dropout_prob": 0.0,
            "numerical_features": [],
        }
        self.data, self.length = data, given.length
        self.model = FullDIN(config, Columns(data, config))
        begin(self._tables(), given.start)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=given.rate)
        self.model.train()

    def _tables(self) -> Iterator[Tensor]:
        """Each field's own; those of a side lie in one."""
        for part in self.model.modules():
            if isinstance(part, FMEmbedding):
                weight = part.embedding.weight.data
                yield from weight.tensor_split([int(first) for first in part.offsets[1:]])

    def batch(self, rows: Array) -> Any:
        """One Interaction."""
        item_NL, length_N = self.data.histories(rows, self.length)
        columns = {
            "user": self.data.user_N[rows],
            "item": self.data.item_N[rows],
            "item_list": item_NL,
            "item_length": length_N,
            "label": self.data.label_N[rows],
        }
        return Interaction({name: torch.from_numpy(column) for name, column in columns.items()})

    def step(self, batch: Any) -> None:
        """The body of the loop in ``Trainer._train_epoch``."""
        self.optimizer.zero_grad()
        self.model.calculate_loss(batch).backward()
        self.optimizer.step()

    def predict(self, rows: Array) -> Array:
        """Probabilities."""
        self.model.eval()
        with torch.no_grad():
            score = self.model.predict(self.batch(rows))
        self.model.train()
        return score.numpy()


if __name__ == "__main__":
    serve(RecBole)
