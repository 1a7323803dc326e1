"""Efforts by measurement, and ``headrace foil tune``'s mistakes in one line."""

from dataclasses import replace

import pytest
import torch

from headrace import cli
from headrace.data import Ragged
from headrace.errors import DataError
from headrace.ops.graph_search import Effort
from headrace.retrieval._graph import ItemGraph
from headrace.retrieval._searched import Searchable
from headrace.retrieval.foil import Foil, FoilRetriever
from headrace.tuning.foil import Trial, Tuned, tune, validation
from tests.retrieval.planes import Planes

NUM_ITEMS = 6_000


@pytest.fixture(scope="module")
def retriever():
    return made(smooth=True)


def made(smooth):
    """Items on a plane; a request wants what lies in a direction, or what nobody can tell."""
    scorer = Planes(NUM_ITEMS, smooth=smooth)
    available_I = torch.ones(NUM_ITEMS, dtype=torch.bool)
    graph = ItemGraph.Config(links=4, coarse_share=0.002)
    catalogue = Searchable.of(scorer, available_I, graph=graph)
    return FoilRetriever(Foil.Config(graph=graph), scorer, catalogue, Effort((400,), (3,)))


@pytest.fixture(scope="module")
def asked():
    return Planes.requests(12)


def test_the_cheapest_effort_that_finds_enough(retriever, asked):
    tuned = tune(retriever, asked, 0.95, 20)
    assert tuned.chosen.coverage >= 0.95
    assert tuned.chosen.scored_share == min(
        trial.scored_share for trial in tuned.trials if trial.coverage >= 0.95
    )
    found = tuned.retriever.search(asked, 20)
    assert found.num_scored.mean() / NUM_ITEMS == pytest.approx(tuned.chosen.scored_share)
    assert tuned.retriever.effort == tuned.chosen.effort


def test_more_recall_costs_more(retriever, asked):
    less, more = (tune(retriever, asked, recall, 20).chosen for recall in (0.5, 0.99))
    assert less.scored_share < more.scored_share


def test_the_front_holds_what_no_other_beats(retriever):
    def trial(share, coverage):
        return Trial(4, retriever.effort, coverage, share)

    trials = [trial(*pair) for pair in ((0.2, 0.5), (0.1, 0.4), (0.3, 0.5), (0.4, 0.9), (0.2, 0.3))]
    front = Tuned(trials, trials[0], retriever).front
    assert [(t.scored_share, t.coverage) for t in front] == [(0.1, 0.4), (0.2, 0.5), (0.4, 0.9)]


def test_links_are_chosen_too(retriever, asked):
    tuned = tune(retriever, asked, 0.9, 20, links=(4, 12))
    assert {trial.links for trial in tuned.trials} == {4, 12}
    assert tuned.retriever.links == tuned.chosen.links


def test_what_cannot_be_reached_is_said(monkeypatch, asked):
    monkeypatch.setattr("headrace.tuning.foil.WIDTHS", (5, 10))
    with pytest.raises(DataError, match=r"no effort covers 0.99 .* ask for less") as error:
        tune(made(smooth=False), asked, 0.99, 20)
    assert "\n" not in str(error.value)


def test_validation_has_requests_or_says_so(tiny_samples):
    requests = validation(tiny_samples, 5)
    assert len(requests) == 5
    split = replace(tiny_samples.split, valid_ms=tiny_samples.split.test_ms)
    tiny_samples = type(tiny_samples)(
        tiny_samples.config,
        tiny_samples.log,
        split,
        tiny_samples.builder,
        tiny_samples.store,
        tiny_samples.seed,
    )
    with pytest.raises(DataError, match="validation period has no requests"):
        validation(tiny_samples, 5)


class TestFewAllowed:
    """Where a request allows few items they are scored one and all."""

    def test_the_answer_is_exact(self, retriever, asked):
        allowed = torch.arange(1, NUM_ITEMS, NUM_ITEMS // 40)
        available_I = torch.zeros(NUM_ITEMS, dtype=torch.bool)
        available_I[allowed] = True
        few = replace(retriever.catalogue, available_I=available_I)
        found, best = (
            few.search(asked, 30, Effort((2,), (1,))),
            few.exhaustive(asked, 30),
        )
        assert found.item.tolist() == best.item.tolist()
        assert found.score == pytest.approx(best.score)
        assert (found.num_scored == len(allowed)).all()

    def test_of_a_batch_only_those_who_allow_few(self, retriever, asked):
        every = torch.arange(1, NUM_ITEMS)
        rows = [
            every[:0] if b % 3 else every[torch.arange(len(every)) % 150 > 0] for b in range(12)
        ]
        exclude, effort = Ragged.of(rows), Effort((20,), (2,))
        found = retriever.catalogue.search(asked, 30, effort, exclude)
        for b in range(12):
            alone = retriever.catalogue.search(
                asked.take(torch.tensor([b])), 30, effort, Ragged.of([rows[b]])
            )
            low, high = found.offsets[b : b + 2]
            assert found.item[low:high].tolist() == alone.item.tolist()
            assert found.num_scored[b] == alone.num_scored[0]
        direct = found.num_scored[::3]
        assert (direct == len(every) - len(rows[0])).all()

    @pytest.mark.parametrize("most", [0, 5, 10 * NUM_ITEMS])
    def test_everything_filtered_or_more_wanted_than_there_is(self, retriever, asked, most):
        every = Ragged.of([torch.arange(1, NUM_ITEMS)] * 12)
        assert not len(retriever.catalogue.search(asked, most, retriever.effort, every).item)
        all_but_one = Ragged.of([torch.arange(2, NUM_ITEMS)] * 12)
        found = retriever.catalogue.search(asked, most, retriever.effort, all_but_one)
        assert found.item.tolist() == [1] * 12 * bool(most)
        nothing = torch.zeros(NUM_ITEMS, dtype=torch.bool)
        gone = replace(retriever.catalogue, available_I=nothing)
        assert not len(gone.search(asked, most, retriever.effort).item)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recall", "1.2"], "--recall 1.2: want a share above 0, at most 1"),
        (["--recall", "0"], "--recall 0: want a share above 0"),
        (["--links", "1"], "--links 1: want 2 to 512"),
        (["--requests", "0"], "--requests 0: want at least 1"),
        ([], "nowhere: no such run"),
    ],
)
def test_mistakes_are_one_line(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["headrace", "foil", "tune", "nowhere", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr().err.strip()
    assert stop.value.code == 2
    assert message in said
    assert len(said.splitlines()) == 1
