"""`Retry` bounds the calls for a record: as many as `times`, and one after an error that it does not name."""

import pytest

import penstock as ps
from penstock.errors import StoreError


class Failing:
    """A store that raises these errors, one for each call, and then works."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = []

    def open(self):
        pass

    def write(self, records):
        self.calls.append([record.seq for record in records])
        if self.errors:
            raise self.errors.pop(0)

    def sync(self):
        pass

    def close(self):
        pass


def report_of(store, items, **retry):
    node = ps.store(store, retry=ps.Retry(wait_initial_s=0.001, wait_max_s=0.01, jitter_s=0, **retry))
    return ps.Pipeline(ps.source(items, reuses_buffers=False) >> node).run()


@pytest.mark.parametrize(
    ("errors", "retry", "calls"),
    [
        ([OSError()] * 9, {"times": 3}, 3),
        ([OSError()] * 9, {"times": 1}, 1),
        ([ValueError()], {"times": 3, "on": OSError}, 1),
        ([OSError(), ValueError()], {"times": 5, "on": OSError}, 2),
        ([StoreError("no", retryable=False)], {"times": 3}, 1),
        ([OSError()], {"times": 3, "on": ()}, 1),
        ([OSError()], {"times": 2}, 2),
    ],
)
def test_a_record_alone_is_tried_as_often_as_retry_says(errors, retry, calls, tmp_path, monkeypatch):
    """A store is called for a record as often as `times` allows, and not again after an error outside `on`."""
    monkeypatch.chdir(tmp_path)
    store = Failing(*errors)
    report = report_of(store, [1], **retry)
    assert len(store.calls) == calls
    assert (report.stored, report.dead_lettered) == ((0, 1) if len(errors) >= calls else (1, 0))


class OnlySingly(Failing):
    """A store that refuses every list of several records, and blames none of them."""

    def write(self, records):
        self.calls.append([record.seq for record in records])
        if len(records) > 1:
            raise ValueError("of the list")


def test_records_of_a_list_are_still_told_apart(tmp_path, monkeypatch):
    """After an error that blames no record, each record of a list is tried alone, once."""
    monkeypatch.chdir(tmp_path)
    store = OnlySingly()
    report = report_of(store, list(range(50)), on=OSError)
    assert report.stored == 50
    assert max(map(len, store.calls)) > 1
    assert sorted(call[0] for call in store.calls if len(call) == 1) == list(range(50))
