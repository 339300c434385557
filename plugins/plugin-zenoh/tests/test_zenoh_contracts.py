"""The source and the store of this plugin keep every promise of their contracts."""

from __future__ import annotations

import socket

import pytest

from penstock.record import Record
from penstock.testing import SourceContract, StoreContract
from penstock_zenoh import HeroSource, HeroStore, ZenohSource, ZenohStore


@pytest.fixture(autouse=True, scope="module")
def _runtime():
    """Let zenoh start the threads that it keeps for the life of the process, so that they do not count as leaks."""
    endpoint = free_endpoint()
    for _ in range(2):
        source = ZenohSource(key="warm/**", rendezvous=endpoint, until_end=True)
        source.open()
        store = ZenohStore(key="warm/up", rendezvous=endpoint)
        store.open()
        store.write([Record(b"", channel="camera")])
        store.close()
        assert source.read(1, 20.0)
        source.close()


def free_endpoint():
    """Return an unused loopback endpoint."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp/127.0.0.1:{probe.getsockname()[1]}"


class TestZenohSource(SourceContract):
    """Records of a store in the same process."""

    repeats = False

    @pytest.fixture(autouse=True)
    def _meet(self, endpoint):
        self.endpoint = endpoint

    def make_source(self, tmp_path):
        return ZenohSource(key="contract/**", rendezvous=self.endpoint, until_end=True)

    def feed(self, tmp_path):
        store = ZenohStore(key="contract/records", rendezvous=self.endpoint)
        store.open()
        store.write([Record(b"%d" % number, channel="camera", seq=number) for number in range(self.count)])
        store.close()


class TestZenohStore(StoreContract):
    """A store that publishes without subscribers: it cannot be read."""

    on_disk = False
    many = 500

    @pytest.fixture(autouse=True)
    def _meet(self, endpoint):
        self.endpoint = endpoint

    def make_store(self, tmp_path):
        endpoint = getattr(self, "endpoint", "tcp/127.0.0.1:7450")
        return ZenohStore(key="contract/{{ channel }}", rendezvous=endpoint, wait_for_subscribers=0)


class TestHeroSource(SourceContract):
    """Events of a HERO in the same process."""

    repeats = False

    @pytest.fixture(autouse=True)
    def _meet(self, endpoint):
        self.endpoint = endpoint

    def make_source(self, tmp_path):
        return HeroSource(
            object_selector="cam$*",
            event_name="data",
            rendezvous=self.endpoint,
            bounds=(),
            until_silent_s=0.5,
        )

    def feed(self, tmp_path):
        store = HeroStore(hero="camera", event_name="data", rendezvous=self.endpoint, wait_for_observers=True)
        store.open()
        store.write([Record([number], metadata={"n": number}) for number in range(self.count)])
        store.close()


class TestHeroStore(StoreContract):
    """A HERO without observers: it cannot be read."""

    on_disk = False
    many = 500

    @pytest.fixture(autouse=True)
    def _meet(self, endpoint):
        self.endpoint = endpoint

    def make_store(self, tmp_path):
        endpoint = getattr(self, "endpoint", "tcp/127.0.0.1:7450")
        return HeroStore(hero="camera", event_name="data", rendezvous=endpoint, discoverable=True)
