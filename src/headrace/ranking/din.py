"""Deep Interest Network, Zhou et al., KDD 2018, arXiv:1706.06978.

Target attention of section 4.3 over the history, Dice of 5.3 and mini-batch-aware regularisation
of 5.2 as settings. Paper and the authors' code differ in the weights: the paper leaves them
unnormalised, the code applies a softmax; ``norm`` chooses. Differences: the event's age is an input
of the attention unit; one logit a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

from pydantic import Field
from torch import Tensor

from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..nn.embedder import Embedder
from ..nn.gates import Stack
from ..nn.interest_mlp import SIDES, InterestMLP
from ..nn.pointwise import Countable
from ._base import Ranker, RankerConfig


@final
class DIN(Ranker):
    """Target attention over one behaviour sequence, then an MLP over everything."""

    class Config(RankerConfig, InterestMLP.Config):
        """Settings of DIN."""

        kind: Literal["din"] = "din"
        table_l2: float = Field(default=0.0, ge=0)
        """Mini-batch-aware L2 of the embedding tables; the paper uses 0.01."""

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> DIN:
            return DIN(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.tasks = config, tasks
        self.reads_sequences = (config.history,)
        self.embed = Embedder(space, SIDES, leave_out=config.unread(space.schema))
        attend = config.attend or tuple(space.schema.names("item"))
        self._attended = self.columns_of(attend)
        self.body = InterestMLP(config, self.embed, self.embed.width(attend), len(tasks))

    def prepare(self, batches: Countable) -> None:
        """Count how often each id of each table occurs, for the regularisation (n_j of eq. 6)."""
        if self.config.table_l2:
            for batch in batches.epoch(0):
                history = batch.requests.ragged(f"{self.config.history}.item")
                self.embed.count(batch.requests, batch.candidates, history.values)

    def table_decay(self) -> Mapping[str, tuple[float, Tensor]]:
        """Strength of the regularisation and occurrences of each row, by parameter name."""
        if not self.config.table_l2:
            return {}
        return {
            f"embed.tables.{name}.weight": (self.config.table_l2, count)
            for name, count in self.embed.counts.items()
        }

    def stack(self) -> Stack:
        return self.body.stack("body")

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        history = requests.ragged(f"{self.config.history}.item")
        item_NI, event_EI = self.item_vectors(candidates.item_id.values, history.values)
        target_ND, event_ED = item_NI[:, self._attended], event_EI[:, self._attended]
        return self.body(self.embed, requests, candidates, item_NI, target_ND, event_ED)
