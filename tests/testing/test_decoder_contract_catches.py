"""Each promise of a decoder is broken by one decoder here, and the test of that promise finds it."""

from __future__ import annotations

import os
import random

import attrs
import pytest

from penstock.errors import DecodeError, SourceError
from penstock.record import Record
from penstock.testing import DecoderContract

BROKEN: list = []
"""Each as (test that has to find it, case, what the test raises): filled by `breaks`."""


def breaks(*tests, raises=AssertionError, **claims):
    """Note that a decoder breaks the promises of these tests; `claims` are attributes of its case."""

    def decorate(decoder):
        case = type(f"Case{decoder.__name__}", (LinesCase,), {"decoder": decoder, **claims})
        BROKEN.extend(pytest.param(test, case, raises, id=f"{decoder.__name__} {test}") for test in tests)
        return decoder

    return decorate


@attrs.define(kw_only=True, slots=False)
class Lines:
    """A decoder that keeps its promises: lines of a stream in pieces of any size. Broken ones differ in one thing."""

    takes = gives = "bytes"
    _rest: bytes = attrs.field(default=b"", init=False, eq=False)
    _held: list = attrs.field(factory=list, init=False, eq=False)
    _seq: int = attrs.field(default=0, init=False, eq=False)

    def open(self):
        pass

    def close(self):
        pass

    def decode(self, record):
        data = self.bytes_of(record)
        if b"\x00" in data:
            raise DecodeError("NUL in a line")
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines:
            self._held = []
        if self._rest:
            self._held.append(record)
        return [self.line(line, record) for line in lines]

    def bytes_of(self, record):
        return bytes(record.data)

    def line(self, line, packet):
        self._seq += 1
        return packet.replace(data=line, seq=self._seq, parent=packet)

    def flush(self):
        found = [self.line(self._rest, self._held[-1])] if self._held else []
        self.reset()
        return found

    def reset(self):
        self._rest, self._held = b"", []

    def held(self):
        return list(self._held)


class LinesCase(DecoderContract):
    decoder = Lines

    def make_decoder(self):
        return self.decoder()

    def make_packets(self):
        return [Record(data, channel="c", seq=number) for number, data in enumerate((b"a\nb\n", b"c", b"d\ne\nf"))]

    def make_bad_packet(self):
        return Record(b"a\x00\n", channel="c")

    def make_unopenable(self, tmp_path):
        decoder = self.decoder()
        decoder.open = lambda: self.fail_to_open(decoder)
        return decoder

    def fail_to_open(self, decoder):
        raise SourceError("no such library")


class TestLines(LinesCase):
    """The sound decoder passes everything, so that what fails below fails for its fault."""


@breaks("test_names_do_not_depend_on_where_it_begins")
class CountsForItself(Lines):
    """Says that its numbers are its own, and counts from 0 wherever it begins."""

    own_identity = True


@breaks("test_names_each_record")
class OneNumberForAll(Lines):
    """Says that its numbers are its own, and gives all lines of a packet the packet's."""

    own_identity = True

    def line(self, line, packet):
        return packet.replace(data=line, parent=packet)


@breaks("test_building_does_nothing")
@attrs.define(kw_only=True, slots=False)
class OpensAFileEarly(Lines):
    def __attrs_post_init__(self):
        OPENED.append(os.open(os.devnull, os.O_RDONLY))


OPENED: list = []


@pytest.fixture(autouse=True)
def _close_what_a_broken_decoder_opened():
    yield
    while OPENED:
        os.close(OPENED.pop())


@breaks("test_settings_are_data")
@attrs.define(kw_only=True, eq=False, slots=False)
class ComparesByIdentity(Lines):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


@breaks("test_settings_leave_the_nodes_names_alone")
@attrs.define(kw_only=True, slots=False)
class HasAName(Lines):
    name: str = "lines"


@breaks("test_kinds_of_data_are_known")
class GivesLines(Lines):
    gives = "lines"


@breaks("test_settings_do_not_change", "test_packets_are_not_changed")
@attrs.define(kw_only=True, slots=False)
class CountsInASetting(Lines):
    count: int = 0

    def open(self):
        self.count += 1


@breaks("test_open_that_fails", raises=KeyError)
class RaisesNoErrorOfOurs(Lines):
    pass


BROKEN[-1].values[1].fail_to_open = lambda self, decoder: {}["cannot"]


@breaks("test_close_without_open", "test_closing_twice", raises=AttributeError)
class ClosesOnce(Lines):
    _library = None

    def open(self):
        self._library = "open"

    def close(self):
        self._library.upper()
        self._library = None


@breaks("test_has_the_methods_of_a_decoder")
class CannotReset(Lines):
    reset = None


@breaks("test_gives_records")
class NumbersLikeItsPacket(Lines):
    """Two lines of one packet get one number, and so one key in a store."""

    def line(self, line, packet):
        return packet.replace(data=line, parent=packet)


@breaks("test_gives_records")
class LosesTheChannel(Lines):
    def line(self, line, packet):
        return super().line(line, packet).replace(channel="")


@breaks("test_gives_what_it_says")
class GivesText(Lines):
    def line(self, line, packet):
        return super().line(line, packet).replace(data=line.decode())


@breaks("test_fields_have_their_types")
class GivesItsTimeAsFloat(Lines):
    def line(self, line, packet):
        return super().line(line, packet).replace(time_ns=1.5e9)


@breaks("test_takes_views", raises=AttributeError)
class KnowsNoViews(Lines):
    def bytes_of(self, record):
        return record.data.replace(b"\r", b"")


@breaks("test_says_which_packet_each_came_from")
class CopiesItsParent(Lines):
    def line(self, line, packet):
        return super().line(line, packet).replace(parent=packet.replace(seq=packet.seq))


@breaks("test_is_deterministic")
class AddsNoise(Lines):
    def line(self, line, packet):
        return super().line(line + random.randbytes(4), packet)


@breaks("test_flush_empties")
class FlushesTwice(Lines):
    def flush(self):
        return [self.line(self._rest, self._held[-1])] if self._held else []


@breaks("test_reset_forgets")
class RemembersAfterReset(Lines):
    def flush(self):
        found = [self.line(self._rest, self._held[-1])] if self._held else []
        self._rest, self._held = b"", []
        return found

    def reset(self):
        pass


BROKEN[-1].values[1].make_packets = lambda _: [Record(data, channel="c") for data in (b"a\nb", b"c\nd")]


@breaks("test_channels_do_not_mix")
class SharesItsRest(Lines):
    RESTS = [b""]

    @property
    def _rest(self):
        return self.RESTS[0]

    @_rest.setter
    def _rest(self, rest):
        self.RESTS[0] = rest


@breaks("test_results_stay_valid")
class ReusesItsBuffer(Lines):
    def line(self, line, packet):
        BUFFER[: len(line)] = line
        return super().line(memoryview(BUFFER)[: len(line)], packet)


BUFFER = bytearray(100)


@breaks("test_packets_are_not_changed")
class ChangesItsPacket(Lines):
    def decode(self, record):
        record.metadata["seen"] = True
        return super().decode(record)


@breaks("test_bad_packet")
class TakesEverything(Lines):
    def bytes_of(self, record):
        return bytes(record.data).replace(b"\x00", b"")


@breaks("test_bad_packet", raises=DecodeError)
class IsDeadAfterABadPacket(Lines):
    """Until it is reset, which no run does for it."""

    _is_dead = False

    def decode(self, record):
        try:
            if self._is_dead:
                raise DecodeError("dead")
            return super().decode(record)
        except DecodeError:
            self._is_dead = True
            raise

    def reset(self):
        self._is_dead = False
        super().reset()


@breaks("test_held")
class HoldsForEver(Lines):
    def reset(self):
        self._rest = b""


@breaks("test_works_on_after_an_error")
class IsDeadAfterAnError(Lines):
    dead = False

    def bytes_of(self, record):
        try:
            return b"" if self.dead else super().bytes_of(record)
        except BaseException:
            self.dead = True
            raise


@pytest.mark.parametrize(("test", "case", "raises"), BROKEN)
def test_broken_decoders_are_found(failures, test, case, raises):
    """A decoder that breaks a promise fails the test of that promise."""
    found = failures(case(), test)
    assert found, f"{test} does not find what is wrong with {case.decoder.__name__}"
    assert [error for error in found if isinstance(error, raises)], found


def test_every_test_can_fail(untried):
    """For each test of the contract there is a decoder that fails it."""
    assert untried(DecoderContract, BROKEN) == []
