"""The numbers of a channel, kept as runs."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.run.steps.seq_runs import SeqRuns

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), min_size=1, max_size=8)


@given(st.lists(st.tuples(RANGES, st.booleans()), min_size=1, max_size=4))
def test_ranges_added_together_are_found_as_if_added_one_by_one(lists):
    """Whatever the order of ranges and lists, exactly the numbers in them are present."""
    runs, present = SeqRuns(), set()
    for ranges, in_order in lists:
        ranges = sorted(ranges) if in_order else ranges
        firsts, ends = [first for first, _ in ranges], [first + count for first, count in ranges]
        runs.cover_each(firsts, ends)
        present.update(*map(range, firsts, ends))
    assert {number for number in range(50) if runs.first_common(number, number + 1) is not None} == present
