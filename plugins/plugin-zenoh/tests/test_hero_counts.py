"""The counts of a HERO's events: gaps, restarts, odd numbers, and the frames that an acquisition lacks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_zenoh.hero.account import Account
from penstock_zenoh.hero.acquisitions import Acquisition
from penstock_zenoh.hero.frames import Frames


def test_a_restart_of_the_count_is_no_gap():
    """A running key: gaps are counted, a restarted count is not a gap, and seq continues."""
    frames = Frames("frame")
    taken = [frames.take({"frame": number}) for number in (0, 1, 4, 0, 1, 1, 2)]
    assert [seq for seq, *_ in taken] == [0, 1, 4, 5, 6, 7, 8]
    assert [missing for _, _, missing, _ in taken] == [0, 0, 2, 0, 0, 0, 0]
    assert [continues for *_, continues in taken] == [True, True, False, False, True, False, True]
    assert frames.restarts == 2


@pytest.mark.parametrize("odd", [-1, 2**63, 1.5, "3", True, None, [1]])
def test_a_number_that_is_none_is_not_counted(odd):
    """What a network sends as a number and is none makes no gap, and the record still has a seq of its own."""
    frames = Frames("frame")
    seqs = [frames.take({"frame": value})[0] for value in (0, odd, 1, 2**62 - 1, 2**62 - 1, 2**62 - 1, 0)]
    assert len(set(seqs)) == len(seqs)
    assert all(0 <= seq < 2**63 for seq in seqs)


COUNTS = st.lists(
    st.one_of(st.integers(0, 6), st.sampled_from([-1, True, 1.0, "3", None, 2**62 - 1, 2**63])), min_size=1, max_size=6
)


@given(
    st.lists(
        st.tuples(st.sampled_from(["data", "other"]), COUNTS | st.integers(0, 9).map(lambda at: [*range(at, at + 5)])),
        max_size=6,
    ),
    st.booleans(),
)
def test_events_that_arrive_together_are_counted_as_single_ones(arrivals, has_key):
    """Counts that follow on one another are taken in one step, to the same numbers, gaps and ranges."""
    accounts = [Account(sequence_key="frame" if has_key else None) for _ in range(2)]
    for account in accounts:
        account.bound("cam", "heros", {"frames": 9}, 1, mark=0, is_start=True)
    for mark, (event, counts) in enumerate(arrivals):
        said = [{"frame": count} for count in counts]
        single = [accounts[0].take("cam", event, each, mark=mark) for each in said]
        assert accounts[1].take_all("cam", event, said, mark=mark) == single
        if mark == 2:  # as if one was refused
            assert accounts[0].number("cam") == accounts[1].number("cam")
    ours, theirs = ((each.remark(), each.lost()) for each in accounts)
    assert ours == theirs
    for account in accounts:
        account.durable(3)
    assert accounts[0].remark() == accounts[1].remark()


@pytest.mark.parametrize(
    ("seen", "wanted", "missing"),
    [
        ([[0, 9]], 10, []),
        ([[1, 10]], 10, []),
        ([[0, 3], [6, 9]], 10, [[4, 5]]),
        ([[2, 9]], 10, [[0, 1]]),
        ([[0, 7]], 10, [[8, 9]]),
        ([[2, 10]], 10, [[1, 1]]),
        ([], 10, None),
        ([[90, 99]], 20, None),
    ],
)
def test_missing_numbers_are_named_or_not_known(seen, wanted, missing):
    """The missing frames of an acquisition are named where their numbers can be told, whether from 0 or from 1."""
    arrived = sum(last - first + 1 for first, last in seen)
    one = Acquisition("cam", "heros", 0, {}, 1, 0, emitted=wanted, arrived=arrived, seen=seen)
    assert one.missing() == missing
