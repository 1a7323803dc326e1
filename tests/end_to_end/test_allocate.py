"""Plans profiled, replayed, reported on and served by, with the real command line."""

import json
import re
import shutil

import numpy as np
import pytest

from headrace.allocation.actions import STAGES, Actions
from headrace.allocation.model import Model
from headrace.allocation.policies.dcaf import Dcaf
from headrace.behavior import RawEvent
from headrace.errors import DataError
from headrace.serving.service import CHANGES, Service
from headrace.serving.wire import Ask
from tests.end_to_end.conftest import headrace, refused


@pytest.fixture(scope="module")
def allocated(trained, tmp_path_factory):
    shop, _ = trained
    run = tmp_path_factory.mktemp("allocated") / "run"
    shutil.copytree(shop.run, run)
    early = headrace("allocate", "replay", run, check=False)
    mixed = "--new-to-user", "0.5"
    headrace("allocate", "profile", run, "--requests", "3", "--widen", "2", *mixed)
    headrace("allocate", "replay", run, "--requests", "200", "--formula", "p_buy * price", *mixed)
    return run, early, headrace("allocate", "report", run)


def test_the_order_of_steps_is_told(allocated):
    _, early, _ = allocated
    assert early.returncode == 2
    assert "run `headrace allocate profile` first" in early.stderr


def test_plans_and_report(allocated):
    run, _, told = allocated
    actions = Actions.read(run / "allocation" / "actions.json")
    assert 2 <= len(actions) <= 16 and (np.diff(actions.cpu_ms) >= 0).all()
    assert actions.shared.max() > 0.2  # passes under load spare something
    assert {"preranker", "ranking.lr", "reranker", "effort.foil"} <= set(actions.quotas[0])
    page = (run / "allocation" / "report.html").read_text()
    assert told.stdout.strip().endswith("report.html")
    assert page.count("<svg") == 5 and "Fairness" in page and "http" not in page.split("<body>")[0]


def test_it_serves(allocated):
    run, _, _ = allocated
    with Service.open(run) as fixed:
        quota = dict(fixed.steering.plan(fixed.requests(*_read(fixed))).quota)
        settings = {name: int(count[0]) for name, count in quota.items()}
    allocator = Dcaf.Config(quota=settings, explore=0.0).build()
    with Service.open(run, allocator=allocator) as service:
        for user in range(30):
            assert service.answer([Ask(user=str(user))])[0].items
        told = service.steering.state()
        assert told["failures"] == {} and sum(told["mix"].values()) == pytest.approx(1)
    rows = (run / "allocation" / "decisions.jsonl").read_text().splitlines()
    assert len(rows) >= 30 and json.loads(rows[-1])["propensity"] == 1.0


def test_a_tier_that_is_not_in_the_bundle_is_refused(allocated, tmp_path):
    whole, _, _ = allocated
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    path = run / "allocation" / "actions.json"
    path.write_text(path.read_text().replace("ranking.lr", "ranking.mlp"))
    said = refused("serve", run, "--allocator", "dcaf")
    assert "the bundle has no tier 'mlp' (known: lr); name it in `tiers` and train" in said
    assert len(said.splitlines()) == 1


def test_what_really_happened_corrects_the_replay(allocated, tmp_path):
    whole, _, _ = allocated
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / "allocation" / "decisions.jsonl").unlink(missing_ok=True)
    said = refused("allocate", "replay", run, "--decisions")
    assert "no decisions; serve with `--allocator dcaf` first" in said
    with Service.open(run) as fixed:
        settings = dict(fixed.steering.plan(fixed.requests(*_read(fixed))).quota)
    quota = {name: int(count[0]) for name, count in settings.items()}
    allocator = Dcaf.Config(quota=quota, explore=0.5, refresh_s=1e-6).build()
    with Service.open(run, allocator=allocator, writable=True) as service:
        (run / "allocation" / "price.json").write_text('{"price": 1e9}')
        users, at = [str(user) for user in range(40)], 1_000
        now = service.clock.now_ms()
        for n, user in enumerate(users):
            shown = service.answer([Ask(user=user, time_ms=now + n)])[0].items
            bought = RawEvent(f"b{n}", user, shown[0].item, "buy", now + n + at, 1.0)
            service.store.append([[bought]])
        late = RawEvent("late", "1", shown[0].item, "click", now + 86_400_000, 1.0)
        service.store.append([[late]])
    with (run / "allocation" / "decisions.jsonl").open("a") as file:
        file.write('{"torn": ')
    told = headrace("allocate", "replay", run, "--decisions", "--within-hours", 1).stdout
    line = next(line for line in told.splitlines() if "compared" in line)
    assert re.match(r"\d+ decisions compared, \d+ of them explored: .* left out .*1 torn$", line)
    model = Model.read(run / "allocation", [n for n in quota if n not in STAGES])
    assert (model.before.arrays()["scale"][1:] != 1).any()
    (run / "allocation" / "model.json").write_text(
        (run / "allocation" / "model.json").read_text().replace(model.version, "other")
    )
    said = refused("allocate", "replay", run, "--decisions")
    assert "replayed before the last training; replay again" in said


def test_a_service_that_cannot_be_opened_leaves_nothing_open(allocated):
    run, _, _ = allocated
    Service.open(run, writable=True).close()
    journal = run / "events" / CHANGES
    whole = journal.read_bytes()
    journal.write_bytes(b"noise\n")
    with pytest.raises(DataError, match="no journal of"):
        Service.open(run, writable=True)
    journal.write_bytes(whole)
    Service.open(run, writable=True).close()


def _read(service):
    return service.reader.read([Ask(user="1")])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ("serve", "--allocator", "dcav"),
            "--allocator: no such kind 'dcav'; did you mean 'dcaf'?",
        ),
        (("allocate", "profile", "--formula", "p_bye"), "no such name 'p_bye'"),
        (("allocate", "profile", "--formula", "import x"), "--formula"),
    ],
)
def test_mistakes_are_one_line(allocated, command, message):
    run, _, _ = allocated
    said = refused(*command, run)
    assert message in said and len(said.splitlines()) == 1
