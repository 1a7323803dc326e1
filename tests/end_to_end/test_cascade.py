"""From raw files to a served slate, through the real command line and the real server."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest
import torch

from headrace.bundle import Bundle
from headrace.log import Log
from headrace.run import Run
from headrace.serving.service import Service
from tests.end_to_end.conftest import headrace


def test_demo_shows_slates_and_ends_with_the_report(trained):
    shop, done = trained
    assert done.stdout.rstrip().splitlines()[-1] == f"report: {shop.run}/report.json"
    assert "found by" in done.stdout
    assert f"headrace serve {shop.run}" in done.stdout
    page = (shop.run / "report.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_report_has_every_promised_key(trained):
    shop, _ = trained
    report = json.loads((shop.run / "report.json").read_text())
    assert report["retrieval"]["merged"]["recall@200"] > 0.2
    assert report["retrieval"]["merged"]["new_to_user"]["recall@200"] >= 0
    channels = {"repurchase", "popular", "item_cf", "two_tower", "foil"}
    assert set(report["retrieval"]["channels"]) == channels
    assert {"auc", "gauc", "logloss", "pcoc"} <= set(report["ranking"]["ranking"])
    assert report["ranking"]["lr"]["auc"] > 0.5
    assert report["preranking"]["hit"]["20"] > 0
    assert list(report["d_category"]["models"]) == ["ranking", "lr"]
    assert 0 < report["d_category"]["models"]["lr"]["shown"]["known"] <= 1
    cascade = report["cascade"]
    assert cascade["recall@10"] > 0
    assert cascade["new_to_user"]["recall@10"] >= 0
    assert cascade["latency_ms"]["p99"] >= cascade["latency_ms"]["p50"] > 0
    for baseline in ("popular", "repurchase"):
        assert report["baselines"][baseline]["recall@10"] >= 0
    assert report["baselines"]["popular"]["new_to_user"]["recall@10"] >= 0
    assert report["data"]["users"] == 40


def test_stages_narrow_and_keep_their_quotas(trained):
    shop, _ = trained
    funnel = json.loads((shop.run / "report.json").read_text())["cascade"]["funnel"]
    assert 40 >= funnel["retrieval"] >= funnel["preranking"] == funnel["ranking"]
    assert funnel["preranking"] <= 20
    assert funnel["reranking"] <= 10


def test_a_second_ingest_changes_nothing(trained):
    shop, _ = trained
    before = (shop.run / "log" / "CURRENT").resolve()
    assert "up to date" in headrace("ingest", shop.config).stdout
    assert (shop.run / "log" / "CURRENT").resolve() == before


def test_a_restored_cascade_scores_bit_for_bit_the_same(trained):
    shop, _ = trained
    run = Run.open(shop.run)
    log = run.log()
    traces = []
    for _ in range(2):
        cascade = Bundle.open(run.bundle_path).assemble(log)
        samples = run.samples(cascade.builder.space)
        requests = samples.features(samples.requests("test")[:20])
        plan = run.app.allocation.build().plan(requests)
        traces.append(cascade.run(requests, plan, samples.store))
    for stage in traces[0].after:
        first, second = (t.after[stage] for t in traces)
        assert torch.equal(first.item_id.values, second.item_id.values)
        for name in first.scores:
            assert torch.equal(first.scores[name], second.scores[name])


def test_the_service_answers_as_the_offline_cascade(trained):
    """One request through the service and through Cascade.run on the same moment."""
    shop, _ = trained
    run = Run.open(shop.run)
    with Service.open(shop.run) as service:
        answer = service.recommend(user="5", k=10, time_ms=service.clock.now_ms())
    cascade = Bundle.open(run.bundle_path).assemble(run.log())
    samples = run.samples(cascade.builder.space)
    log = run.log()
    user = log.users["user"].to_list().index("5")
    rows = np.flatnonzero(np.asarray(log.request("user")) == user)
    asked = samples.asked(rows[-1:])
    asked.time_ms[:] = answer.time_ms
    asked.group[:] = -1  # here groups belong to single requests: this one was shown nothing yet
    requests = samples.builder.requests(asked, samples.store)
    trace = cascade.run(requests, run.app.allocation.build().plan(requests), samples.store)
    ids = log.items["item"].to_list()
    assert [i.item for i in answer.items] == [ids[j] for j in trace.slate.item_id.values.tolist()]
    values = trace.slate.scores["value"][:, 0].tolist()
    assert [i.value for i in answer.items] == pytest.approx(values, abs=1e-6)


class Server:
    """`headrace serve` in a process of its own."""

    def __init__(self, run):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headrace", "serve", str(run), "--port", str(self.port)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        self.wait()

    def wait(self):
        deadline = time.time() + 90
        while time.time() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(self.process.stderr.read())
            try:
                if self.client.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError("the server did not become ready")

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(30)
        self.process.stderr.close()
        self.client.close()


def _repurchased(slate, item):
    """The channel that reads the user's own events found the item."""
    return any(i["item"] == item and "repurchase" in i["found_by"] for i in slate["items"])


def test_the_server_learns_from_events_and_survives_kill_9(trained):
    shop, _ = trained
    server = Server(shop.run)
    try:
        ask = {"user": "5", "k": 5, "explain": True}
        first = server.client.post("/v1/recommend", json=ask).json()
        assert len(first["items"]) == 5
        assert first["items"][0]["found_by"]
        bought = "59"
        events = {"event_id": "e1", "user": "newcomer", "item": bought, "type": "buy"}
        assert server.client.post("/v1/events", json=events).status_code == 200
        new = server.client.post("/v1/recommend", json={**ask, "user": "newcomer", "k": 40}).json()
        assert new["user_known"]
        assert _repurchased(new, bought)
    finally:
        server.stop(signal.SIGKILL)
    server = Server(shop.run)
    try:
        again = server.client.post(
            "/v1/recommend", json={**ask, "user": "newcomer", "k": 40}
        ).json()
        assert again["user_known"]
        assert _repurchased(again, bought)
        repeated = server.client.post("/v1/events", json=events).json()
        assert "1" in str(repeated)
        assert server.client.get("/metrics").text.count("headrace_") > 5
    finally:
        server.stop()


MISTAKES = {
    "no such run": (["serve", "nowhere"], "nowhere: no such run"),
    "no such file": (["train", "nowhere.toml"], "nowhere.toml: cannot be read"),
    "no log yet": (["evaluate", "{fresh}"], "run `headrace"),
    "no table": (["init", "nowhere.parquet"], "nowhere.parquet"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_get_one_line_and_exit_code_2(name, shop, tmp_path):
    arguments, message = MISTAKES[name]
    fresh = tmp_path / "fresh.toml"
    text = shop.config.read_text().replace(str(shop.run), str(tmp_path / "run"))
    fresh.write_text(text)
    done = headrace(*[a.format(fresh=fresh) for a in arguments], check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_altered_bundle_is_refused(trained, tmp_path):
    import shutil

    shop, _ = trained
    copy = tmp_path / "run"
    shutil.copytree(shop.run, copy, symlinks=True)
    version = (copy / "bundle" / "CURRENT").resolve()
    weights = version / "arrays" / "preranking.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    done = headrace("recommend", copy, "--user", "5", check=False)
    assert done.returncode == 2
    assert "preranking.safetensors: altered or truncated; train again" in done.stderr
    weights.write_bytes(bytes(content[: len(content) // 2]))
    done = headrace("evaluate", copy, check=False)
    assert done.returncode == 2
    assert "altered or truncated" in done.stderr


def test_a_bundle_of_another_schema_is_refused(trained, tmp_path):
    shop, _ = trained
    other = tmp_path / "other.toml"
    other.write_text(shop.config.read_text().replace("default_dim = 4", "default_dim = 6"))
    done = headrace("evaluate", other, check=False)
    assert done.returncode == 2
    assert "a bundle of another schema" in done.stderr


def test_a_foil_is_tuned_and_the_bundle_keeps_it(trained, tmp_path):
    import shutil

    shop, _ = trained
    copy = tmp_path / "run"
    shutil.copytree(shop.run, copy, symlinks=True)
    before = Bundle.open(copy / "bundle")
    done = headrace("foil", "tune", copy, "--recall", "0.99", "--links", "4", "--k", "20")
    assert "chosen" in done.stdout
    after = Bundle.open(copy / "bundle")
    assert after.version in done.stdout
    assert after.version != before.version
    assert before.path.exists()  # its readers are not disturbed
    changed = {
        n for n, digest in after.manifest.files.items() if digest != before.manifest.files[n]
    }
    assert changed == {"arrays/channel.foil.safetensors"}
    assert headrace("recommend", copy, "--user", "5").stdout
    fresh = tmp_path / "fresh.toml"
    fresh.write_text(
        shop.config.read_text()
        .replace('[retrieval.foil]\nkind = "foil"\n', "")
        .replace("foil = 30\n", "")
    )
    for arguments, message in (
        ((fresh,), "no channel of kind foil among repurchase, popular"),
        (
            (copy, "--channel", "foill"),
            "--channel foill: no foil of that name; did you mean 'foil'?",
        ),
    ):
        done = headrace("foil", "tune", *arguments, check=False)
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_ranker_to_compare_must_be_in_the_bundle(trained):
    shop, _ = trained
    done = headrace("evaluate", shop.run, "--against", "lrr", check=False)
    assert done.returncode == 2
    assert (
        "--against lrr: no ranker of that name under [compare]; did you mean 'lr'?" in done.stderr
    )


def test_schema_and_version_print(trained):
    schema = json.loads(headrace("schema").stdout)
    assert "ranking" in schema["properties"]
    assert headrace("version").stdout.strip().count(".") == 2


def test_init_writes_a_file_that_loads(shop, tmp_path):
    from headrace.app import App
    from headrace.config import load

    target = tmp_path / "mine.toml"
    headrace("init", shop.data / "events.parquet", "--output", target)
    assert load(target, App).source.kind == "table"
    assert (
        headrace("init", shop.data / "events.parquet", "--output", target, check=False).returncode
        == 2
    )


def test_the_log_is_readable_as_it_says(trained):
    shop, _ = trained
    log = Log.open(shop.run / "log")
    assert log.manifest.event_types == ("click", "buy")
    assert log.manifest.num_items == 61
