"""DecoderContract: every promise of a decoder as a test to inherit."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from penstock.decoder import Decoder
from penstock.errors import DecodeError
from penstock.fields import is_exact
from penstock.processor import SupportsHeld, SupportsLifecycle
from penstock.record import Record
from penstock.run.steps.naming import Naming
from penstock.short_text import short
from penstock.testing.any_errors import ENDING, RaisingData
from penstock.testing.component_contract import ComponentContract, as_view, can, copied, is_kind, needs
from penstock.testing.equality import assert_same_record, assert_unique


class DecoderContract(ComponentContract):
    """Test a decoder against its contract: inherit this class, and define how your decoder and its packets are made.

    ```python
    class TestMyDecoder(DecoderContract):
        def make_decoder(self):
            return MyDecoder()

        def make_packets(self):
            return [Record(b"one", channel="camera", seq=0), Record(b"two", channel="camera", seq=1)]
    ```
    """

    def make_decoder(self) -> Decoder:
        """Return a new decoder."""
        raise NotImplementedError("write make_decoder(self), which returns your decoder")

    def make_packets(self) -> Sequence[Record]:
        """Return packets of one channel, from the start of a stream, that decode to records; new ones at each call."""
        raise NotImplementedError("write make_packets(self), which returns records of one channel to decode")

    def make_bad_packet(self) -> Record | None:
        """Return a packet that cannot be decoded and must raise DecodeError, or None if everything can be."""
        return None

    def make(self, tmp_path: Path) -> Decoder:
        """Return a new decoder, under the name that all contracts share."""
        return self.make_decoder()

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """Open a new decoder for a block, if it can be opened."""
        decoder: Any = self.make_decoder()
        try:
            if can(decoder, SupportsLifecycle):
                decoder.open()
            yield decoder
        finally:
            if can(decoder, SupportsLifecycle):
                decoder.close()

    def decode_all(self, decoder: Decoder, packets: Iterable[Record]) -> list[Record]:
        """Decode and flush."""
        records = [record for packet in packets for record in decoder.decode(packet)]
        return [*records, *decoder.flush()]

    def expected(self) -> list[Record]:
        """Return the records of a new decoder for the packets."""
        with self.opened() as decoder:
            return self.decode_all(decoder, self.make_packets())

    def test_has_the_methods_of_a_decoder(self) -> None:
        """It has decode, flush and reset."""
        decoder = self.make_decoder()
        for name in ("decode", "flush", "reset"):
            assert callable(getattr(decoder, name, None)), f"write {type(decoder).__name__}.{name}"

    def test_gives_records(self) -> None:
        """The packets decode to at least one Record, of the same channel, with increasing numbers."""
        packets = self.make_packets()
        records = self.expected()
        assert records, "decode() returned no record"
        assert all(isinstance(record, Record) for record in records), "decode() returned something that is not a Record"
        channels = {record.channel for record in records}
        assert channels == {packets[0].channel}, (
            f"records of {channels}: keep the channel, as packet.replace(data=…) does"
        )
        numbers = [record.seq for record in records]
        assert numbers == sorted(set(numbers)), f"seq {numbers}: each record has a number of its own, one up at least"

    def test_names_each_record(self) -> None:
        """No two records have the same (channel, seq), as the run numbers them or, with `own_identity`, as they are."""
        assert_unique(self._named(self.make_packets()))

    def test_names_do_not_depend_on_where_it_begins(self) -> None:
        """If it begins at a later packet, as after a restart, each (channel, seq) means the same packet."""
        parents = {(record.channel, record.seq): record.parent for record in self._named(self.make_packets())}
        for start in range(1, len(self.make_packets())):
            for record in self._named(self.make_packets()[start:]):
                before = parents.get((record.channel, record.seq))
                if before is not None and record.parent is not None:
                    assert before.seq == record.parent.seq, (
                        f"seq {record.seq} is of packet {before.seq}, and of packet {record.parent.seq} if decoding "
                        f"begins at packet {start}: leave the numbers to the run, or derive them from the packet's"
                    )

    def _named(self, packets: Sequence[Record]) -> list[Record]:
        """Decode as a run does, which numbers the records unless the decoder does."""
        with self.opened() as decoder:
            own = getattr(decoder, "own_identity", False)
            naming = Naming(type(decoder).__name__, _fail)
            found: list[Record] = []
            for packet in (*packets, None):
                with contextlib.suppress(DecodeError):  # it may begin in the middle of something
                    frames = list(decoder.flush() if packet is None else decoder.decode(packet))
                    found += frames if own else naming.frames(packet, frames)
        return found

    def test_fields_have_their_types(self) -> None:
        """Every field of a record has exactly the type that `Record` declares, so that it can be written and read."""
        for record in self.expected():
            assert is_exact(record), f"a field of {record!r:.200} does not have the type that Record declares"

    def test_gives_what_it_says(self) -> None:
        """Its data are of the kind declared by `gives`, and the packets' data of the kind declared by `takes`."""
        decoder = self.make_decoder()
        takes, gives = (getattr(decoder, name, "any") for name in ("takes", "gives"))
        for packet in self.make_packets():
            assert is_kind(packet.data, takes), f"takes={takes!r}, but data is {type(packet.data).__name__}"
        for record in self.expected():
            assert is_kind(record.data, gives), f"gives={gives!r}, but data is {type(record.data).__name__}"

    def test_takes_views(self) -> None:
        """Bytes that arrive as a read-only view, as from shared memory, decode to the same records."""
        with self.opened() as decoder:
            found = self.decode_all(decoder, map(as_view, self.make_packets()))
        self._assert_same(self.expected(), found)

    def test_says_which_packet_each_came_from(self) -> None:
        """The parent of each decoded record is one of the packets that were passed in, not a copy."""
        packets = self.make_packets()
        with self.opened() as decoder:
            for record in self.decode_all(decoder, packets):
                assert any(record.parent is packet for packet in packets), f"parent of seq {record.seq} was never fed"

    def test_is_deterministic(self) -> None:
        """Two decoders return the same records for the same packets."""
        self._assert_same(self.expected(), self.expected())

    def test_flush_empties(self) -> None:
        """After a flush the decoder is empty: a second flush returns nothing."""
        with self.opened() as decoder:
            self._assert_empty("flush", decoder.flush(), "a new decoder holds nothing")
            self.decode_all(decoder, self.make_packets())
            self._assert_empty("flush", decoder.flush(), "the flush before it must return all, and forget it")

    def test_reset_forgets(self) -> None:
        """After a reset in mid-stream, the stream from its start decodes as in a new decoder."""
        packets = self.make_packets()
        with self.opened() as decoder:
            for packet in packets[: max(1, len(packets) // 2)]:
                list(decoder.decode(packet))
            decoder.reset()
            again = self.decode_all(decoder, self.make_packets())
        expected = self.expected()
        assert len(again) == len(expected), (
            f"after reset(), the stream gave {len(again)} records, expected {len(expected)}: reset() must forget the "
            "packets before it"
        )
        for one, other in zip(expected, again, strict=True):
            assert_same_record(one, other, fields=("data", "channel"))

    def test_channels_do_not_mix(self) -> None:
        """Two decoders used alternately return the same records as each would alone."""
        with self.opened() as one, self.opened() as other:
            mine: list[Record] = []
            theirs: list[Record] = []
            for packet, copy in zip(self.make_packets(), self.make_packets(), strict=True):
                mine.extend(one.decode(packet))
                theirs.extend(other.decode(copy))
            mine.extend(one.flush())
            theirs.extend(other.flush())
        expected = self.expected()
        self._assert_same(expected, mine)
        self._assert_same(expected, theirs)

    def test_results_stay_valid(self) -> None:
        """Decoded records do not change when more are decoded, nor when the decoder is closed."""
        with self.opened() as decoder:
            records = []
            at_once = []
            for packet in self.make_packets():
                for record in decoder.decode(packet):
                    records.append(record)
                    at_once.append(copied(record.data))
            list(decoder.flush())
        for record, data in zip(records, at_once, strict=True):
            assert_same_record(record, record.replace(data=data))

    def test_packets_are_not_changed(self) -> None:
        """Decoding does not change the packets or the decoder's settings."""
        packets = self.make_packets()
        with self.opened() as decoder:
            self.decode_all(decoder, packets)
            if attrs.has(type(decoder)):
                assert decoder == self.make_decoder(), "decoding changes a field: declare it with init=False, eq=False"
        for packet, as_made in zip(packets, self.make_packets(), strict=True):
            assert_same_record(as_made, packet)

    @pytest.mark.parametrize("kind", ENDING)
    def test_works_on_after_an_error(self, kind: str) -> None:
        """Data that raise an error of any class on use affect only their own packet: after a reset, the stream from
        its start decodes as in a new decoder; or the decoder accepts them.
        """
        bad = self.make_packets()[0].replace(data=RaisingData(kind))
        with self.opened() as decoder:
            try:
                list(decoder.decode(bad))
            except BaseException:
                decoder.reset()
                self._assert_same(self.expected(), self.decode_all(decoder, self.make_packets()))

    def test_bad_packet(self) -> None:
        """A packet that cannot be decoded raises DecodeError; then the decoder works with a stream from its start.

        This holds without a reset, since a run does not call it here; after a reset, nothing of the bad packet is left.
        If the author provides no such packet, noise of the same size is tried, which may be decoded or not.
        """
        bad = self.make_bad_packet()
        with self.opened() as decoder:
            try:
                self.decode_all(decoder, [bad or _noise(self.make_packets()[0])])
            except DecodeError as error:
                assert str(error), (  # noqa: PT017 - raising is optional for noise
                    "the DecodeError has no message, expected one: tell what is wrong with the packet"
                )
            else:
                assert bad is None, "it decoded the packet of make_bad_packet"
            assert self.decode_all(decoder, self.make_packets()), "after a bad packet, good ones decode to nothing"
            with contextlib.suppress(DecodeError):
                list(decoder.decode(bad or _noise(self.make_packets()[0])))
            decoder.reset()
            found, expected = len(self.decode_all(decoder, self.make_packets())), len(self.expected())
            assert found == expected, (
                f"after a bad packet and reset(), the stream gave {found} records, expected {expected}: reset() must "
                "forget the bad packet"
            )

    @needs(SupportsLifecycle)
    def test_closing_twice(self) -> None:
        """After open, close may be called any number of times."""
        with self.opened() as decoder:
            decoder.close()
            decoder.close()

    @needs(SupportsHeld)
    def test_held(self) -> None:
        """It holds only packets that it was given, and none after a flush."""
        packets = self.make_packets()
        with self.opened() as decoder:
            self._assert_empty("held", decoder.held(), "a new decoder holds nothing")
            for packet in packets:
                list(decoder.decode(packet))
                for held in decoder.held():
                    assert any(held is packet for packet in packets), (
                        f"held() returned {short(held)}, expected packets that were passed to decode(): return the "
                        "objects themselves, not copies"
                    )
            list(decoder.flush())
            self._assert_empty("held", decoder.held(), "flush() must return all, and forget it")

    def _assert_empty(self, method: str, found: Iterable[Any], remedy: str) -> None:
        left = list(found)
        assert not left, f"{method}() returned {len(left)} records, expected none: {remedy}"

    def _assert_same(self, expected: Sequence[Record], actual: Sequence[Record]) -> None:
        assert len(actual) == len(expected), f"{len(actual)} records, and not {len(expected)} as from a new decoder"
        for one, other in zip(expected, actual, strict=True):
            assert_same_record(one, other)


def _fail(message: str, error: BaseException) -> None:
    raise AssertionError(message) from error


def _noise(packet: Record) -> Record:
    size = len(packet.data) if isinstance(packet.data, (bytes, bytearray, memoryview)) else 100
    return packet.replace(data=random.Random(4).randbytes(size))
