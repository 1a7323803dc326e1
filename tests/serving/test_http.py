"""The server over real HTTP: what it answers, and one clear line for everything it does not."""

import errno
import json
import os
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from headrace.errors import ConfigError
from headrace.serving import api, http
from headrace.serving.service import Service
from headrace.serving.wire import Ask
from tests.serving import shop
from tests.serving.conftest import ready, served

JSON = {"content-type": "application/json"}


def event(number, **fields):
    return {"event_id": f"e{number}", "user": "u1", "item": "i29", "type": "buy", **fields}


def own(client, user):
    """The items that the user's own channel found, by rank."""
    answer = client.post("/v1/recommend", json={"user": user, "k": 25, "explain": True}).json()
    found = {
        i["found_by"]["own"]["rank"]: i["item"] for i in answer["items"] if "own" in i["found_by"]
    }
    return [found[rank] for rank in sorted(found)]


def test_a_slate_is_what_the_service_answers(client, service):
    asked = {"user": "u3", "k": 3, "explain": True, "time_ms": service.clock.now_ms()}
    answer = client.post("/v1/recommend", json=asked)
    assert answer.status_code == 200
    expected = service.answer([Ask.model_validate(asked)])[0]
    assert [i["value"] for i in answer.json()["items"]] == [i.value for i in expected.items]
    item = answer.json()["items"][0]
    assert set(item) == {"item", "name", "category", "price", "value", "scores", "found_by"}
    assert set(answer.json()) == {"user", "user_known", "time_ms", "version", "items", "warnings"}


def test_integers_are_ids_too(client):
    answer = client.post("/v1/recommend", json={"user": 12, "filters": {"exclude": [7]}}).json()
    assert answer["user"] == "12"
    assert answer["warnings"] == ["filters.exclude: no item '7' in the log"]


def test_a_batch(client):
    batch = {"requests": [{"user": "u1", "k": 2}, {}, {"history": [{"item": "i1", "type": "buy"}]}]}
    answers = client.post("/v1/recommend/batch", json=batch).json()["answers"]
    assert [len(a["items"]) for a in answers] == [2, 4, 4]
    assert [a["user_known"] for a in answers] == [True, False, False]


def test_events_count_for_the_very_next_request(fresh):
    client, _ = fresh
    for n in range(5):
        item = f"i{20 + n}"
        sent = client.post("/v1/events", json=event(n, user="new", item=item))
        assert sent.json() == {"accepted": 1, "duplicates": 0}
        assert own(client, "new")[0] == item
    assert client.post("/v1/recommend", json={"user": "new"}).json()["user_known"]


def test_events_sent_again_count_once_even_after_a_restart(log, tmp_path):
    many = {"events": [event(n, item=f"i{n}", time_ms=1_600_000_000_000 + n) for n in range(5)]}
    with served(shop.service(log, tmp_path)) as client:
        ready(client)
        assert client.post("/v1/events", json=many).json() == {"accepted": 5, "duplicates": 0}
        assert client.post("/v1/events", json=many).json() == {"accepted": 0, "duplicates": 5}
        before = own(client, "u1")
    with served(shop.service(log, tmp_path)) as client:
        ready(client)
        assert client.post("/v1/events", json=many).json() == {"accepted": 0, "duplicates": 5}
        assert own(client, "u1") == before
    store = shop.store_in(log, tmp_path)
    assert store.export()[0].height == 5
    store.close()


def test_items_are_withdrawn_and_priced_without_a_restart(fresh):
    client, _ = fresh
    all_items = {"k": 25, "filters": {"price_max": 3.0}}

    def shown():
        slate = client.post("/v1/recommend", json=all_items).json()["items"]
        return {i["item"]: i["price"] for i in slate}

    assert shown() == {"i0": 1.0, "i1": 2.0, "i2": 3.0}
    assert client.post("/v1/items/i1", json={"available": False}).json() == {
        "item": "i1",
        "available": False,
        "numbers": {"price": 2.0, "bid": 0.5},
    }
    client.post("/v1/items/i9", json={"numbers": {"price": 2.5}})
    assert shown() == {"i0": 1.0, "i2": 3.0, "i9": 2.5}
    assert not client.get("/v1/items/i1").json()["available"]
    client.post("/v1/items/i1", json={"available": True})
    assert "i1" in shown()


RECOMMEND, BATCH, EVENT, ITEM = "/v1/recommend", "/v1/recommend/batch", "/v1/events", "/v1/items/i1"
MISTAKES = [
    (RECOMMEND, b'{"user": ', 400, "malformed", "body: not JSON: "),
    (RECOMMEND, b"", 422, "invalid", "body: needed, but missing"),
    (RECOMMEND, b"\xff\xfe", 400, "malformed", ""),
    (RECOMMEND, b"[" * 3000, 400, "malformed", ""),
    (RECOMMEND, b"[]", 422, "invalid", "body: want a JSON object"),
    (RECOMMEND, {"k": 0}, 422, "invalid", "k: input should be greater than or equal to 1, got 0"),
    (RECOMMEND, {"k": 10**6}, 422, "invalid", "k: 1000000 is too long a slate; at most 25"),
    (RECOMMEND, {"k": "3"}, 422, "invalid", "k: input should be a valid integer, got '3'"),
    (RECOMMEND, {"k": True}, 422, "invalid", "k: input should be a valid integer, got True"),
    (RECOMMEND, {"k": 1.5}, 422, "invalid", "k: input should be a valid integer, got 1.5"),
    (RECOMMEND, {"usr": "u1"}, 422, "invalid", "usr: no such field; did you mean 'user'?"),
    (RECOMMEND, {"user": ""}, 422, "invalid", "user: string should have at least 1 character"),
    (RECOMMEND, {"user": "u" * 300}, 422, "invalid", "user: string should have at most 256"),
    (RECOMMEND, b'{"user": "\\ud800"}', 422, "invalid", "user: "),
    (RECOMMEND, b'{"\\ud800": 1}', 422, "invalid", "body: input should be"),
    (EVENT, b'{"event_id":"\\ud800","user":1,"item":1,"type":"buy"}', 422, "invalid", "event_id: "),
    (RECOMMEND, {"user": True}, 422, "invalid", "user: input should be a valid string, got True"),
    (RECOMMEND, {"time_ms": -1}, 422, "invalid", "time_ms: input should be greater than or equal"),
    (RECOMMEND, {"time_ms": 2**52}, 422, "invalid", "time_ms: 4503599627370496 lies more than a"),
    (RECOMMEND, {"time_ms": 10**400}, 422, "invalid", "time_ms: "),
    (RECOMMEND, {"context": {"shop": "s1"}}, 422, "invalid", "context.shop: no context column"),
    (RECOMMEND, {"context": {"store": None}}, 422, "invalid", "context.store"),
    (RECOMMEND, {"user": "u1", "history": [{"item": "i1"}]}, 422, "invalid", "history: for anony"),
    (RECOMMEND, {"history": [{"item": "i1", "type": "buy"}] * 6}, 422, "invalid", "history: 6 ev"),
    (RECOMMEND, {"history": [{"item": "i1"}]}, 422, "invalid", "history.type: needed, one of view"),
    (RECOMMEND, {"filters": {"categories": ["c7"]}}, 422, "invalid", "filters.categories: no cat"),
    (RECOMMEND, b'{"filters": {"price_max": NaN}}', 422, "invalid", "filters.price_max: input sh"),
    (BATCH, {"requests": []}, 422, "invalid", "requests: list should have at least 1 item"),
    (BATCH, {"requests": [{}] * 4}, 422, "invalid", "requests: 4 of them; at most 3"),
    (BATCH, {"requests": [{}, {"k": 99}]}, 422, "invalid", "requests[1].k: 99 is too long"),
    (BATCH, {"requests": [{}, {"k": 0}]}, 422, "invalid", "requests[1].k: input should be"),
    (EVENT, {"events": []}, 422, "invalid", "events: list should have at least 1 item"),
    (EVENT, {"event_id": "e"}, 422, "invalid", "user: needed, but missing (and 2 more)"),
    (EVENT, event(1, item="gone"), 422, "invalid", "no such item in the log: events[0].item 'gon"),
    (EVENT, event(1, type="by"), 422, "invalid", "events[0].type: no type 'by' in the log; did"),
    (EVENT, event(1, time_ms=2**52), 422, "invalid", "events[0].time_ms: 4503599627370496 lies"),
    (EVENT, event(1, time_ms=-5), 422, "invalid", "time_ms: input should be greater than or eq"),
    (EVENT, event(1, value="x"), 422, "invalid", "value: input should be a valid number, got 'x'"),
    (
        EVENT,
        b'{"event_id":"e","user":1,"item":1,"type":"buy","value":1e999}',
        422,
        "invalid",
        "val",
    ),
    (EVENT, {"events": [event(1), event(2, itm=1)]}, 422, "invalid", "events[1].itm: no such fiel"),
    (ITEM, {}, 422, "invalid", "body: nothing to change; give available, numbers or both"),
    (ITEM, {"numbers": {"prise": 1}}, 422, "invalid", "numbers.prise: no such column; did you mea"),
    (ITEM, {"numbers": {"price": -1}}, 422, "invalid", "numbers.price: input should be greater"),
    (
        ITEM,
        b'{"numbers": {"price": NaN}}',
        422,
        "invalid",
        "numbers.price: input should be a finit",
    ),
    (
        "/v1/items/gone",
        {"available": False},
        404,
        "not_found",
        "items/gone: no such item in the log",
    ),
    ("/v1/reccomend", {}, 404, "not_found", "/v1/reccomend: no such path; see /docs"),
    ("/healthz", {}, 405, "method_not_allowed", "Method Not Allowed"),
]


@pytest.mark.parametrize(("path", "body", "status", "code", "start"), MISTAKES)
def test_mistakes_get_one_clear_line(client, path, body, status, code, start):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(path, content=content, headers=JSON)
    problem = answer.json()["error"]
    assert (answer.status_code, problem["code"]) == (status, code)
    assert problem["message"].startswith(start)
    assert 0 < len(problem["message"]) < 300
    assert "\n" not in problem["message"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    counted = f'headrace_errors_total{{code="{code}"}}'
    assert counted in client.get("/metrics").text


def test_refused_events_leave_nothing_behind(fresh):
    client, _ = fresh
    wrong = {"events": [event(1), event(2), event(3, item="gone")]}
    assert client.post("/v1/events", json=wrong).status_code == 422
    assert "headrace_store_events 0.0" in metrics(client)
    assert 'headrace_events_total{outcome="refused"} 3.0' in client.get("/metrics").text


def test_a_body_that_is_not_json(client):
    for headers in ({"content-type": "application/x-www-form-urlencoded"}, {}):
        answer = client.post(RECOMMEND, content=b'{"user": "u1"}', headers=headers)
        assert answer.status_code == 415
        assert "send application/json" in answer.json()["error"]["message"]


def test_too_large_a_body_is_refused_unread(client):
    """The length is told to be 10 GB; the answer comes after a few bytes of them."""
    with socket.create_connection((client.base_url.host, client.base_url.port)) as raw:
        head = "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        raw.sendall(f"{head}content-length: 10000000000\r\n\r\n[".encode())
        raw.settimeout(30)
        assert raw.recv(1 << 16).startswith(b"HTTP/1.1 413")
        with socket.create_connection((client.base_url.host, client.base_url.port)) as untold:
            untold.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
            untold.sendall((b"400\r\n" + b" " * 1024 + b"\r\n") * 6)
            untold.settimeout(30)
            assert untold.recv(1 << 16).startswith(b"HTTP/1.1 413")
    answer = client.post(EVENT, content=b" " * 5_001, headers=JSON)
    assert answer.json()["error"]["code"] == "too_large"
    assert answer.json()["error"]["message"] == "body: more than 5000 bytes; send less at a time"


def test_our_own_bugs_are_told_by_number_only(fresh, monkeypatch, caplog):
    client, _ = fresh

    def broken(self, asks):
        raise KeyError("secret")

    monkeypatch.setattr(Service, "answer_each", broken)
    answer = client.post(RECOMMEND, json={})
    problem = answer.json()["error"]
    assert (answer.status_code, problem["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert f"request {problem['request_id']}: /v1/recommend failed" in caplog.text
    assert 'headrace_requests_total{route="/v1/recommend",status="500"} 1.0' in metrics(client)
    assert client.get("/healthz").status_code == 200


def test_a_full_disk_refuses_events_and_keeps_serving(fresh, monkeypatch):
    client, _ = fresh
    client.post("/v1/events", json=event(1, item="i3"))

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))  # before LMDB's first data page
    try:
        with monkeypatch.context() as m:
            m.setattr(os, "fsync", full)
            for path, body, cause in (
                ("/v1/events", event(2), "mdb_txn_commit: "),
                (ITEM, {"available": False}, "No space left on device"),
            ):
                answer = client.post(path, json=body)
                assert answer.status_code == 503
                assert answer.headers["retry-after"] == "1"
                assert answer.json()["error"]["code"] == "storage"
                assert cause in answer.json()["error"]["message"]
        assert "headrace_store_events 1.0" in metrics(client)
        assert "i29" not in own(client, "u1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert client.post("/v1/events", json=event(2)).json() == {"accepted": 1, "duplicates": 0}
    assert own(client, "u1")[0] == "i29"


def metrics(client):
    return client.get("/metrics").text


def test_metrics(fresh):
    client, _ = fresh
    client.post(RECOMMEND, json={"user": "u1", "k": 3})
    client.post("/v1/events", json=event(1))
    client.post("/v1/events", json=event(1))
    client.get("/nowhere")
    text = metrics(client)
    for line in (
        'headrace_bundle_info{version="v1"} 1.0',
        'headrace_requests_total{route="/v1/recommend",status="200"} 1.0',
        'headrace_requests_total{route="other",status="404"} 1.0',
        'headrace_request_seconds_count{route="/v1/recommend"} 1.0',
        'headrace_stage_seconds_count{stage="ranking"} 1.0',
        'headrace_stage_seconds_count{stage="popular"} 1.0',
        'headrace_candidates_sum{stage="popular"} 12.0',
        'headrace_candidates_sum{stage="preranking"} 8.0',
        'headrace_candidates_sum{stage="reranking"} 3.0',
        'headrace_events_total{outcome="accepted"} 1.0',
        'headrace_events_total{outcome="duplicate"} 1.0',
        'headrace_events_total{outcome="refused"} 0.0',
        'headrace_errors_total{code="not_found"} 1.0',
        "headrace_ready 1.0",
        "headrace_waiting 0.0",
    ):
        assert line in text.splitlines(), line


def test_openapi_has_examples(client):
    told = client.get("/openapi.json").json()
    schemas = told["components"]["schemas"]
    for path in ("/v1/recommend", "/v1/recommend/batch", "/v1/events", "/v1/items/{item}"):
        assert {"200", "422", "503"} <= set(told["paths"][path]["post"]["responses"])
    assert schemas["Failure"]["properties"]["error"]
    for name, path in (("Ask", "/v1/recommend"), ("Event", "/v1/events"), ("Change", ITEM)):
        for example in schemas[name]["examples"]:
            status = client.post(path, json=example).status_code
            assert status in {200, 422}, (name, status)  # their ids are of another shop


def test_not_ready_until_warm_but_alive(log, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(api, "warm_up", lambda service: go.wait(30))
    with served(shop.service(log)) as client:
        assert client.get("/healthz").status_code == 200
        for method, path, body in (
            ("GET", "/readyz", None),
            ("POST", RECOMMEND, {}),
            ("POST", EVENT, event(1)),
            ("GET", ITEM, None),
        ):
            answer = client.request(method, path, json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
        go.set()
        ready(client)
        assert client.get("/readyz").json() == {"status": "ready", "version": "v1"}


def test_a_failed_warm_up_is_told(log, monkeypatch, caplog):
    def broken(service):
        raise ValueError("no luck")

    monkeypatch.setattr(api, "warm_up", broken)
    with served(shop.service(log)) as client:
        deadline = time.time() + 30
        while "failed" not in client.get("/readyz").text:
            assert time.time() < deadline
        assert client.get("/healthz").status_code == 200
    assert "no luck" in caplog.text


def test_computing_does_not_hold_up_health_and_is_not_queued_without_end(log, monkeypatch):
    monkeypatch.setattr(api, "WAITING", 2)
    entered, go = threading.Event(), threading.Event()
    answer = Service.answer_each

    def slow(self, asks):
        entered.set()
        go.wait(30)
        return answer(self, asks)

    with served(shop.service(log)) as client, ThreadPoolExecutor(2) as pool:
        ready(client)
        monkeypatch.setattr(Service, "answer_each", slow)
        busy = [pool.submit(client.post, RECOMMEND, json={}) for _ in range(2)]
        assert entered.wait(30)
        while "headrace_waiting 2.0" not in metrics(client):
            time.sleep(0.005)
        assert client.get("/healthz").status_code == 200
        refused = client.post(RECOMMEND, json={})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["code"] == "overloaded"
        go.set()
        assert [b.result(30).status_code for b in busy] == [200, 200]


def test_what_was_begun_is_finished_before_it_stops(log, tmp_path, monkeypatch):
    entered = threading.Event()
    answer = Service.answer_each

    def slow(self, asks):
        entered.set()
        time.sleep(0.3)
        return answer(self, asks)

    with ThreadPoolExecutor(1) as pool, served(shop.service(log, tmp_path)) as client:
        ready(client)
        client.post("/v1/events", json=event(1))
        monkeypatch.setattr(Service, "answer_each", slow)
        begun = pool.submit(httpx.post, str(client.base_url) + RECOMMEND, json={"user": "u1"})
        assert entered.wait(30)
    assert begun.result(30).status_code == 200
    shop.service(log, tmp_path).close()  # the journals are free again


def test_a_taken_port_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127.0.0.1:{port}: cannot listen.*another --port"):
            http.serve(tmp_path, port=port)
