"""LibRecommender's DIN, a TensorFlow 1 graph, by the body of its own trainer."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import numpy as np
import pandas as pd
from libreco.algorithms import DIN
from libreco.algorithms import din as module
from libreco.data import DatasetFeat
from libreco.layers.dense import dense_nn
from libreco.tfops import tf
from libreco.training.dispatch import get_trainer

from benchmarks.peers._data import Array, Data
from benchmarks.peers._serve import Stepper, serve

DIM = 16


def attention(target: Any, events: Any, mask: Any) -> Any:
    """As ``din_attention``, but 64-16 with ReLU, and weights that are no softmax."""
    targets = tf.tile(target[:, tf.newaxis, :], [1, events.shape[1], 1])
    pairs = tf.concat([targets, events, targets - events, targets * events], axis=2)
    logit = dense_nn(pairs, (64, 16, 1), use_bn=False, activation=tf.nn.relu, name="attention")
    weight = tf.squeeze(logit, axis=2) * tf.cast(mask, tf.float32)
    return tf.squeeze(weight[:, tf.newaxis, :] @ events, axis=1)


def hidden(x: Any, units: Any, **settings: Any) -> Any:
    """As ``dense_nn``, which leaves its last layer linear."""
    return tf.nn.relu(dense_nn(x, units, **settings))


class LibRecommender(Stepper):
    """Batches are feeds of its placeholders. Its ids count from 0, the unknown one last."""

    def __init__(self, data: Data, given: Namespace) -> None:
        self.about = {
            "equal": True,
            "notes": "attention 16, Sigmoid, softmax -> 64-16, ReLU, no softmax; DNN 128-64-32 -> "
            "128-64, no batch norm, ReLU also behind the last hidden layer",
        }
        self.data, self.length = data, given.length
        tf.set_random_seed(given.seed)
        module.din_attention, module.dense_nn = attention, hidden
        self.model = DIN(
            "ranking",
            self._known(),
            embed_size=DIM,
            lr=given.rate,
            use_bn=False,
            hidden_units=(128, 64),
            recent_num=given.length,
            seed=given.seed,
            tf_sess_config={
                "intra_op_parallelism_threads": given.threads,
                "inter_op_parallelism_threads": 1,
            },
        )
        self.model.build_model()
        self.trainer = get_trainer(self.model)
        self._begin(given.start, np.random.default_rng(given.seed))

    def _begin(self, times: float, rng: np.random.Generator) -> None:
        """As ``_start.begin``."""
        for variable in tf.trainable_variables() if times else ():
            if "embeds_var" in variable.name:
                shape = variable.shape.as_list()
                widest = times * np.sqrt(6 / sum(shape))
                variable.load(rng.uniform(-widest, widest, shape), self.model.sess)

    def _known(self) -> Any:
        """What its models ask of a data set: each user and item once."""
        users, items = self.data.num_users - 1, self.data.num_items - 1
        count = max(users, items)
        item = np.arange(count) % items + 1
        frame = pd.DataFrame(
            {
                "user": np.arange(count) % users + 1,
                "item": item,
                "label": 1,
                "category": self.data.category_I[item],
            }
        )
        _, known = DatasetFeat.build_trainset(
            frame, user_col=[], item_col=["category"], sparse_col=["category"], dense_col=[]
        )
        self.category_I = known.item_sparse_unique[:, 0]
        return known

    def batch(self, rows: Array) -> Any:
        """What is fed; its padding is the number of items."""
        model = self.model
        item_NL, length_N = self.data.histories(rows, self.length)
        user_N, item_N = self.data.user_N[rows], self.data.item_N[rows]
        item_N = np.where(item_N > 0, item_N - 1, model.n_items)
        return {
            model.user_indices: np.where(user_N > 0, user_N - 1, model.n_users),
            model.item_indices: item_N,
            model.user_interacted_seq: np.where(item_NL > 0, item_NL - 1, model.n_items),
            model.user_interacted_len: length_N,
            model.sparse_indices: self.category_I[item_N][:, None],
            model.labels: self.data.label_N[rows],
        }

    def step(self, batch: Any) -> None:
        """The body of the loop in ``TensorFlowTrainer.run``."""
        feed = {**batch, self.model.is_training: True}
        self.model.sess.run((self.trainer.loss, self.trainer.training_op), feed)

    def predict(self, rows: Array) -> Array:
        """Scores, of which the order counts."""
        return self.model.sess.run(self.model.output, self.batch(rows))


if __name__ == "__main__":
    serve(LibRecommender)
