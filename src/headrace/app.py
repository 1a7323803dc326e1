"""One application: everything one TOML file can say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .behavior.stores.local import LocalStore
from .config import Config, Kinds
from .errors import ConfigError, suggest
from .samples import SamplesConfig
from .schema import Schema
from .training import Training
from .value import Value


class Scoring(Config):
    """How a pre-ranker or ranker is trained."""

    requests_per_batch: int = Field(default=64, ge=1, le=100_000)
    """Requests of a training batch; each brings its positives and negatives."""
    training: Training = Training()


class Blending(Config):
    """Which stages join their own scores with those of the stage before, see serving/blend.py."""

    preranking: bool = True
    """Cut by the pre-ranker and the merge together."""
    ranking: bool = False
    """Rank by the ranker and what came before together. The line is fitted on all candidates, shown
    or not: right where users may take what they were not shown, as in a shop. Where only what is
    shown can be taken, it would learn what was shown."""


class Serving(Config):
    """What the server does with the cascade."""

    store: Annotated[Any, Kinds("headrace.behavior.stores")] = LocalStore.Config()
    """Where events that come in are kept."""

    interests: bool = True
    """With a ranker that remembers (mimn) and a local store: keep the states of users in
    events/interests, one step an event, instead of running through histories at every request."""
    delivery: bool = False
    """Count, in log/delivery, what becomes of what gets into pre-ranking. A server whose features
    are made of it counts in any case."""
    clock: Literal["wall", "log"] = "wall"
    """wall: requests happen now. log: time starts at the end of the log and runs on from there, so
    that an old log can be served as if it were today's."""
    max_k: int = Field(default=200, ge=1, le=10_000)
    """Longest slate a request may ask for."""
    max_batch: int = Field(default=64, ge=1, le=10_000)
    """Most requests in one batch call."""
    max_group: int = Field(default=16, ge=1, le=10_000)
    """Most requests, of all that wait, which one pass of the cascade answers together. 1: each
    alone."""
    max_history: int = Field(default=10_000, ge=0, le=1_000_000)
    """Most events of an inline history."""
    max_body_bytes: int = Field(default=1_000_000, ge=1_000)
    """Larger request bodies are refused."""


class Evaluating(Config):
    """What reports look at."""

    sellers: tuple[str, ...] | None = None
    """Item features that tell who offers an item: the report says how those with few events fare.
    Default: those of the schema that are called seller, shop, merchant, advertiser, manufacturer
    or brand."""


class App(Config):
    """The whole cascade, as configured."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    """Names the run directory, runs/NAME, unless ``run`` does."""
    run: str | None = None
    """Where log, models, bundle and reports go; relative to the working directory."""
    seed: int = Field(default=1, ge=0, le=2**31)
    """Every random choice of training follows from it."""
    threads: int = Field(default=2, ge=1, le=256)
    """Threads of PyTorch while training and evaluating."""
    source: Annotated[Any, Kinds("headrace.log.sources")]
    """Raw data."""
    schema_: Schema = Field(alias="schema")
    """Features, tables, sequences."""
    samples: SamplesConfig
    """Tasks, time split, negatives."""
    retrieval: Mapping[str, Annotated[Any, Kinds("headrace.retrieval")]] = Field(min_length=1)
    """Channels by name."""
    preranking: Annotated[Any, Kinds("headrace.preranking")]
    """The model that cuts what retrieval found."""
    prerank_training: Scoring = Scoring()
    ranking: Annotated[Any, Kinds("headrace.ranking")]
    """The model that decides."""
    rank_training: Scoring = Scoring()
    compare: Mapping[str, Annotated[Any, Kinds("headrace.ranking")]] = {}
    """Further rankers, trained like the first and reported beside it; they are not served."""
    tiers: tuple[str, ...] = ()
    """Rankers of ``compare`` that are served, too: plans may put them in the place of ``ranking``,
    such as a light one where a request is not worth the heavy one."""
    blending: Blending = Blending()
    """How stages add up."""
    value: Value.Config
    """What a predicted outcome is worth."""
    reranking: Annotated[Any, Kinds("headrace.reranking")]
    """Orders the slate."""
    allocation: Annotated[Any, Kinds("headrace.allocation.policies")]
    """How much each request may cost."""
    serving: Serving = Serving()
    evaluation: Evaluating = Evaluating()

    @model_validator(mode="after")
    def _names_agree(self) -> App:
        try:
            self.allocation.check(self.retrieval)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        for name in self.tiers:
            if name not in self.compare:
                known = suggest(name, self.compare) if self.compare else "[compare] has none"
                raise ValueError(f"tiers: no ranker {name!r} in [compare]; {known}")
        for feature in self._named_features():
            if feature not in self.schema_.names("item"):
                raise ValueError(
                    f"no item feature {feature!r}; {suggest(feature, self.schema_.names('item'))}"
                )
        for sequence in self._named_sequences():
            if sequence not in self.schema_.sequences:
                raise ValueError(
                    f"no sequence {sequence!r}; {suggest(sequence, self.schema_.sequences)}"
                )
        return self

    def _named_features(self) -> Iterable[str]:
        for ranker in (self.ranking, *self.compare.values()):
            yield from _setting(ranker, "attend", ())
        yield from self.evaluation.sellers or ()

    def _named_sequences(self) -> Iterable[str]:
        for part in (
            self.ranking,
            self.preranking,
            *self.compare.values(),
            *self.retrieval.values(),
        ):
            for key in ("history", "sequence"):
                name = _setting(part, key, None)
                if isinstance(name, str):
                    yield name


def _setting(config: Config, name: str, default: Any) -> Any:
    """A setting that only some kinds have."""
    return config.model_dump().get(name, default)
