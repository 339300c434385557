"""The link between two processes: messages whole and in order, what cannot be sent named, ends and deaths told."""

from __future__ import annotations

import threading
import uuid

import numpy as np
import pytest

from penstock.errors import ComponentLoadError, EndOfSource, StoreError
from penstock.link import AHEAD_BYTES, Link, link_classes
from penstock.plugins import Plugins
from penstock.record import Record


@pytest.fixture
def ends():
    """Both ends of a link, in this process."""
    store, source = link_classes(Plugins.discover())
    names = [uuid.uuid4().hex for _ in range(2)]
    near = Link(store.for_link(names[0]), source.for_link(names[1]))
    far = Link(store.for_link(names[1]), source.for_link(names[0]))
    near.open()
    far.open()
    yield near, far
    near.close()
    far.close()


def test_messages_come_whole_and_in_order(ends):
    """Words and records arrive as they were sent, both ways, with and without records."""
    near, far = ends
    assert near.send({"call": "run", "first": 3}, [Record(b"a"), Record(np.arange(5))]) == {}
    assert near.send({"call": "flush", "numbers": {1: (2, 3)}}) == {}
    message = far.receive(5.0)
    assert message.words == {"call": "run", "first": 3}
    assert [message.records[0].data, message.records[1].data.tolist()] == [b"a", [0, 1, 2, 3, 4]]
    assert message.places == [0, 1]
    assert far.receive(5.0).words == {"call": "flush", "numbers": {1: (2, 3)}}
    assert far.send({"done": True}, [Record(number) for number in range(3000)]) == {}
    assert [record.data for record in near.receive(5.0).records] == list(range(3000))
    assert near.receive(0.0) is None


def test_what_cannot_be_sent_is_named_at_both_ends(ends):
    """A record that no codec can write is left out; both sides know which it was, and the others come."""
    near, far = ends
    refused = near.send({"call": "run"}, [Record(0), Record(threading.Lock()), Record(2)])
    assert list(refused) == [1]
    message = far.receive(5.0)
    assert [record.data for record in message.records] == [0, 2]
    assert message.places == [0, 2]
    assert "$.data" in message.missing[1]
    near.send({"call": "next"})
    assert far.receive(5.0).words == {"call": "next"}


def test_the_end_is_told(ends):
    """When one side has closed, the other hears what was sent before, then that this was all."""
    near, far = ends
    near.send({"call": "last"})
    near.close()
    assert far.receive(5.0).words == {"call": "last"}
    with pytest.raises(EndOfSource):
        far.receive(5.0)
    with pytest.raises(StoreError):
        near.send({"call": "too late"})


def test_what_is_no_end_of_a_link_is_refused():
    """A store without for_link is named as such."""
    with pytest.raises(ComponentLoadError, match=r"NpyStore is not an end of a link: it has no for_link\(\)"):
        link_classes(_Npy())


class _Npy:
    """Plugins whose only store is npy."""

    def load(self, role, name):
        from penstock_npy import NpyStore

        return NpyStore


def test_small_data_keep_their_types(ends):
    """What travels in a bundle of small records comes back as what it was: True is not 1, text is not bytes."""
    near, far = ends
    data = [True, 1, 1.5, None, "å", b"x", -1, (1, "a"), 2**70, float("inf")]
    near.send({"call": "run"}, [Record(each, metadata={"n": n}) for n, each in enumerate(data[:7])])
    near.send({"call": "run"}, [Record(each) for each in data[7:]])
    came = [record.data for _ in range(2) for record in far.receive(5.0).records]
    assert came == data
    assert [type(each) for each in came] == [type(each) for each in data]


@pytest.mark.parametrize("count", [1, 2, 30, 1000])
def test_two_messages_are_sent_without_being_read(ends, count):
    """As much as may go ahead is taken twice before the other side reads any of it, in few records or many."""
    near, far = ends
    data = np.zeros((AHEAD_BYTES - 4096) // count - 200, np.uint8)

    def send():
        for number in range(2):
            near.send({"call": number}, [Record(data, seq=seq) for seq in range(count)])

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    sending.join(60)
    assert not sending.is_alive()
    for number in range(2):
        message = far.receive(5.0)
        assert (message.words, len(message.records)) == ({"call": number}, count)
