"""What changes in the catalogue takes effect at once and survives a restart."""

import pytest

from headrace.behavior import StoreError
from headrace.behavior.journal import Journal
from headrace.errors import RequestError
from headrace.serving.shelf import CACHED, KIND, UnknownItemError
from headrace.serving.wire import Ask, Change, Filters
from tests.serving import shop


def shown(service, **ask):
    return [item.item for item in service.answer([Ask(k=25, **ask)])[0].items]


def test_withdrawn_and_back(log, tmp_path):
    service = shop.service(log, tmp_path)
    assert "i3" in shown(service)
    assert not service.change("i3", Change(available=False)).available
    assert "i3" not in shown(service)
    assert "i3" not in shown(service, filters=Filters(categories=["c0"]))
    service.close()
    service = shop.service(log, tmp_path)
    assert "i3" not in shown(service)
    assert service.change("i3", Change(available=True)).available
    assert "i3" in shown(service)
    service.close()


def test_new_prices_and_bids_enter_value_and_filters(log, tmp_path):
    service = shop.service(log, tmp_path, formula="p_buy * price + bid")
    cheap = Filters(price_max=1.5)
    assert shown(service, filters=cheap) == ["i0"]
    state = service.change("i2", Change(numbers={"price": 0.5, "bid": 90.0}))
    assert state.numbers == {"price": 0.5, "bid": 90.0}
    assert service.item("i2") == state
    assert set(shown(service, filters=cheap)) == {"i0", "i2"}
    service.close()
    service = shop.service(log, tmp_path, formula="p_buy * price + bid")
    top = service.recommend().items[0]
    assert (top.item, top.price) == ("i2", 0.5)
    assert top.value == pytest.approx(top.scores["p_buy"] * 0.5 + 90)
    service.close()


def test_filters_do_not_hide_changes(log):
    """Masks are kept by filter: each must go when the catalogue changes."""
    service = shop.service(log)
    for n in range(CACHED + 3):
        assert len(shown(service, filters=Filters(price_max=1.5 + n / 1000))) == 1
    service.change("i0", Change(available=False))
    assert shown(service, filters=Filters(price_max=1.5)) == []


def test_mistakes_change_nothing(log, tmp_path, monkeypatch):
    service = shop.service(log, tmp_path)
    before = service.item("i1")
    with pytest.raises(UnknownItemError, match="items/gone: no such item"):
        service.change("gone", Change(available=False))
    with pytest.raises(RequestError, match=r"numbers.prise: no such column; did you mean 'price'"):
        service.change("i1", Change(available=False, numbers={"prise": 1.0}))
    with pytest.raises(RequestError, match="too large"):
        service.change("i1", Change(numbers={"price": 1e39}))

    def full(self, record):
        raise StoreError("disk full")

    monkeypatch.setattr(Journal, "append", full)
    with pytest.raises(StoreError):
        service.change("i1", Change(available=False))
    assert service.item("i1") == before
    service.close()


def test_changes_of_another_log_are_left_out(log, tmp_path, caplog):
    journal = Journal(tmp_path / "catalogue.journal", KIND)
    journal.append({"item": "gone", "available": False, "numbers": {}})
    journal.append({"item": "i1", "available": False, "numbers": {"weight": 2.0}})
    journal.close()
    service = shop.service(log, tmp_path)
    assert not service.item("i1").available
    assert caplog.text.count("is not of this log") == 2
    service.close()
