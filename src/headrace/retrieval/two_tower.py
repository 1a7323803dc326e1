"""Two towers trained by sampled softmax over in-batch and uniform negatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Batch, Candidates, Requests
from ..errors import BundleError, ConfigError, suggest
from ..features import FeatureSpace
from ..nn.in_batch import Columns, request_softmax
from ..nn.towers import Items, Towers, check, embedder
from ..samples import Samples
from ..training import Trainer, Training
from ._base import Channel, reads
from ._indexes import Exact, Index, IndexConfig
from ._judge import Judge
from ._positives import Popularity, log_popularity, positive_counts, union

NET = "net."  # prefix of the weights among the arrays


@final
class TwoTower(Channel):
    """User vectors meet item vectors in an inner product, so that items can be indexed.

    Score ``⟨u, v⟩ / τ + b_i``, vectors of length 1. Loss: sampled softmax with the correction
    ``s - log q`` for in-batch negatives (Yi et al. 2019, "Sampling-bias-corrected neural modeling
    for large corpus item recommendations", §3), negatives mixed with uniform ones under one
    proposal q (Yang et al. 2020, "Mixed negative sampling"). Towers after Huang et al. 2013 (DSSM).

    Departures: item frequencies are counted over the training period, not estimated in a stream;
    all positives of a request are scored by one row and never against each other. ``log_q_weight``
    below 1 leaves popularity out of the score, in proportion: at 0 it estimates
    ``log p(i | request) - log q(i)``, to which ``popularity`` adds what is popular now.
    """

    class Config(Towers.Config):
        """Settings of TwoTower."""

        kind: Literal["two_tower"] = "two_tower"
        temperature: float = Field(default=0.07, gt=0, le=1)
        """τ; inner products lie in [-1, 1], logits in [-1/τ, 1/τ]."""
        log_q_weight: float = Field(default=1.0, ge=0, le=1)
        """Share of the sampling correction."""
        item_bias: bool = False
        """Let the item tower add a number of the item's own to every score."""
        popularity: Popularity | None = None
        """Add what is popular at the end of training. Default: nothing."""
        skip: str | None = None
        """A sequence whose items are not returned, since another channel brings them back.
        Default: none."""
        requests_per_batch: int = Field(default=256, ge=1, le=100_000)
        """Requests of a training batch; each brings its positives."""
        pool: int = Field(default=2048, ge=0, le=1_000_000)
        """Uniform negatives of a batch, shared by its requests."""
        judge_at: int = Field(default=100, ge=1, le=10_000)
        """Validations measure recall in so many items."""
        training: Training = Training(table_learning_rate=0.05)
        index: IndexConfig = Exact.Config()
        """How items are searched."""

        def build(self, space: FeatureSpace) -> TwoTower:
            """Make the channel. Raises ConfigError if a name does not exist."""
            check(self, space.schema)
            sequences = space.schema.sequences
            if self.skip is not None and self.skip not in sequences:
                raise ConfigError(
                    f"skip: no sequence {self.skip!r}; {suggest(self.skip, sequences)}"
                )
            return TwoTower(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, samples: Samples, name: str, trainer: Trainer) -> TwoTowerRetriever:
        """Train the towers and index all items; stop early on recall, see ``_judge``."""
        torch.manual_seed(samples.seed)
        config, space = self.config, samples.space
        net = TwoTowerNet(config, space)
        now_I = log_popularity(samples, config.popularity, samples.split.valid_ms)
        judge = Judge(samples, config.judge_at, new=samples.config.new_to_user)

        def validate(_: nn.Module) -> float:
            return judge(TwoTowerRetriever.of(net, now_I, space, Exact.Config()))

        trainer.fit(
            Objective(net, positive_counts(samples)),
            samples.retrieval(
                "train",
                config.requests_per_batch,
                pool=config.pool,
                sequences=(config.history,),
            ),
            config.training,
            name=name,
            validate=validate if judge.able else None,
        )
        return TwoTowerRetriever.of(net, now_I, space, config.index)

    def restore(self, arrays: Mapping[str, Tensor], space: FeatureSpace) -> TwoTowerRetriever:
        """Take up a trained channel.

        Items that came into the log since are encoded and indexed, as popular as the least popular.
        """
        net = TwoTowerNet(self.config, space)
        weights = {n[len(NET) :]: w for n, w in arrays.items() if n.startswith(NET)}
        try:
            net.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise BundleError(f"two_tower: weights do not fit the settings: {reason}") from None
        net.eval()
        items, known = net.encode_all(), len(arrays["keys"])
        floor = arrays["popularity"].min().expand(len(space.catalogue) - known)
        popularity_I = torch.cat([arrays["popularity"], floor])
        fresh_MX = net.keys(items, popularity_I)[known:]
        return TwoTowerRetriever(
            net,
            items,
            torch.cat([arrays["keys"], fresh_MX]),
            popularity_I,
            space.catalogue.available,
            lambda key_IX, shown_I: self.config.index.restore(arrays, key_IX, shown_I),
        )


class TwoTowerNet(nn.Module):
    """The towers with their tables, and the score that they share.

    A request's query ``[u, 1] / τ`` and an item's key ``[v, τ b]`` have the score as their product.
    """

    def __init__(self, config: TwoTower.Config, space: FeatureSpace) -> None:
        super().__init__()
        self.config = config
        self.embed = embedder(config, space)
        self.towers = Towers(config, self.embed, extra=int(config.item_bias))

    def forward(self, requests: Requests, item_M: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys of requests and distinct items, ``(B, D + 1)`` and ``(M, D + 1)``."""
        user_BHD, item_MD, bias_MX = self.towers(self.embed, requests, item_M)
        return self._query(user_BHD[:, 0]), self._key(item_MD, bias_MX.sum(1))

    def encode_all(self) -> Items:
        """Encode the catalogue."""
        return self.towers.encode_all(self.embed, torch.arange(len(self.embed.item_ids)))

    def queries(self, requests: Requests, items: Items) -> Tensor:  # (B, D + 1)
        """Encode requests; ``items`` are all, encoded."""
        return self._query(self.towers.users(self.embed, requests, items)[:, 0])

    def keys(self, items: Items, popularity_I: Tensor) -> Tensor:  # (I, D + 1)
        """Keys of encoded items, their popularity now among their bias."""
        return self._key(items.vector, items.extra.sum(1) + popularity_I)

    def _query(self, user_BD: Tensor) -> Tensor:
        return F.pad(user_BD, (0, 1), value=1.0) / self.config.temperature

    def _key(self, item_MD: Tensor, bias_M: Tensor) -> Tensor:
        return torch.cat([item_MD, self.config.temperature * bias_M.unsqueeze(1)], dim=1)


class Objective(nn.Module):
    """What the net is trained for."""

    def __init__(self, net: TwoTowerNet, frequency_I: Tensor) -> None:
        super().__init__()
        self.net = net
        self._frequency_I = frequency_I

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Sampled softmax of the batch's positives."""
        columns = Columns.of(batch)
        query_BX, key_MX = self.net(batch.requests, columns.item)
        columns, key_MX = columns.gather(key_MX)
        log_q_M = self.net.config.log_q_weight * columns.log_q(self._frequency_I)
        row_N = batch.candidates.item_id.row
        score_BM = query_BX @ key_MX.T
        return {"softmax": request_softmax(score_BM, log_q_M, columns, row_N, batch.weight)}


@final
class TwoTowerRetriever:
    """Towers and an index over the item vectors."""

    def __init__(
        self,
        net: TwoTowerNet,
        items: Items,
        key_IX: Tensor,
        popularity_I: Tensor,
        available_I: Tensor,
        index: Callable[[Tensor, Tensor], Index],
    ) -> None:
        """``popularity_I`` is a part of the keys; ``index`` makes an index of keys."""
        self._net, self._items = net, items
        self.reads_sequences = reads(net.config.history, net.config.skip)
        self._key_IX, self._popularity_I = key_IX, popularity_I
        self._available_I = available_I
        self._index = index(key_IX, available_I)

    @classmethod
    def of(
        cls, net: TwoTowerNet, popularity_I: Tensor, space: FeatureSpace, index: IndexConfig
    ) -> TwoTowerRetriever:
        """Encode and index every item."""
        items = net.encode_all()
        key_IX = net.keys(items, popularity_I)
        return cls(net, items, key_IX, popularity_I, space.catalogue.available, index.build)

    def recount(self, samples: Samples) -> TwoTowerRetriever:
        """The same towers with what is popular at the end of the validation period."""
        config = self._net.config
        if config.popularity is None:
            return self
        now_I = log_popularity(samples, config.popularity, samples.split.test_ms)
        key_IX = self._key_IX.clone()
        key_IX[:, -1] += config.temperature * (now_I - self._popularity_I)
        build = config.index.build
        return TwoTowerRetriever(self._net, self._items, key_IX, now_I, self._available_I, build)

    def reindexed(self, index: IndexConfig) -> TwoTowerRetriever:
        """The same items searched in another way."""
        own = self._net, self._items, self._key_IX, self._popularity_I, self._available_I
        return TwoTowerRetriever(*own, index.build)

    @property
    def item_vectors(self) -> Tensor:  # (I, D)
        """Item vectors of length 1: where items lie, their popularity aside."""
        return self._key_IX[:, :-1]

    @torch.no_grad()
    def retrieve(self, requests: Requests, quota_B: Tensor) -> Candidates:
        """Find the ``quota_B`` best items of each request."""
        exclude, skip = requests.exclude, self._net.config.skip
        if skip is not None:
            exclude = union(exclude, requests.ragged(f"{skip}.item"))
        most = int(quota_B.max()) if len(quota_B) else 0
        found = self._index.search(self._net.queries(requests, self._items), most, exclude)
        return found.first(quota_B)

    def arrays(self) -> Mapping[str, Tensor]:
        """Weights, keys, and what the index cannot be rebuilt without."""
        weights = {f"{NET}{name}": weight for name, weight in self._net.state_dict().items()}
        keys = {"keys": self._key_IX, "popularity": self._popularity_I}
        return {**weights, **keys, **self._index.arrays()}
