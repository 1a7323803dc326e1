"""The load script against a server of stubs: it counts what it sends, and what goes wrong."""

import asyncio

from benchmarks import serving
from tests.serving import shop
from tests.serving.conftest import ready, served


def test_load_and_figures(log, tmp_path):
    stream = serving.calls(log, rps=100, seconds=0.5)
    assert len(stream) == 50
    with served(shop.service(log, tmp_path)) as client:
        ready(client)
        host, port = client.base_url.host, client.base_url.port
        tally = asyncio.run(serving.load(host, port, stream))
        figures, within = tally.figures(), serving.inside(host, port)
    assert figures["errors"] == 0
    assert figures["requests"] == 50
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    events = sum(call.path == "/v1/events" for call in stream)
    kept = shop.store_in(log, tmp_path, writable=False)
    assert len(tally.event_ms) == kept.export()[0].height == events > 0
    kept.close()
    assert {"own", "popular", "retrieval", "ranking"} <= set(within["stage_ms"])
    assert within["server_rss_mb"] > 10


def test_errors_are_counted_and_not_timed(log):
    with served(shop.service(log)) as client:
        ready(client)
        host, port = client.base_url.host, client.base_url.port
        wrong = [serving.Call(0.0, "/v1/recommend", b"{"), serving.Call(0.0, "/nowhere", b"{}")]
        tally = asyncio.run(serving.load(host, port, wrong))
    assert (tally.errors, tally.recommend_ms) == (2, [])
    nobody = asyncio.run(serving.load(host, port, wrong))  # the server is gone
    assert nobody.errors == 2
