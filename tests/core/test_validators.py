"""The public validators name the field, the value and the remedy, and refuse None unless it is allowed."""

from __future__ import annotations

import math

import attrs
import numpy as np
import pytest

import penstock as ps
from penstock.errors import ConfigError
from penstock.validators import (
    at_least,
    check_argument,
    finite_seconds,
    flag,
    mapping,
    name,
    not_negative,
    of_class,
    one_of,
    or_none,
    positive,
    seconds,
)


def check(validator, value):
    """Make an object whose only field has this validator."""
    made = attrs.make_class("Made", {"field": attrs.field(validator=validator)})
    return made(value).field


CASES = [
    (at_least(2), [2, 10**30], [1, True, 2.0, "2"], "a whole number of at least 2"),
    (positive, [0.1, 3, math.inf], [0, -1, math.nan, True, "1"], "a number above 0"),
    (seconds, [0.1, 3, math.inf], [0, -1, math.nan, True, "1"], "a number of seconds above 0"),
    (finite_seconds, [0.1, 3], [0, math.inf, math.nan, True, "1"], "a number of seconds above 0"),
    (not_negative, [0, 0.5], [-0.1, math.nan, False, "0"], "a number of seconds, 0 or more"),
    (one_of("red", "green"), ["red", "green"], ["blue", 1, ("red",)], "one of red, green"),
    (flag, [True, False], [0, 1, "yes"], "True or False"),
    (mapping, [{}, {"a": 1}], [[], {1: 2}, "a"], "a mapping with strings as keys"),
    (name, ["a", "Ångström"], ["", 1], "a non-empty string"),
    (of_class(dict), [{}], [[], "dict"], r"a dict\(...\)"),
]


@pytest.mark.parametrize(("validator", "good", "bad", "remedy"), CASES)
def test_a_validator_accepts_and_refuses(validator, good, bad, remedy):
    """Good values pass; each bad one, and None, is a ConfigError with the field, the value and the remedy."""
    for value in good:
        assert check(validator, value) == value
    for value in [*bad, None]:
        with pytest.raises(ConfigError, match=f"^field=.*: must be {remedy}") as caught:
            check(validator, value)
        assert repr(value) in str(caught.value)
    assert check(or_none(validator), None) is None
    with pytest.raises(ConfigError, match=r"^field="):
        check(or_none(validator), bad[0])


@pytest.mark.parametrize(("validator", "good", "bad", "remedy"), CASES)
def test_an_argument_is_checked_as_a_field_is(validator, good, bad, remedy):
    """`check_argument` returns a good value, and refuses a bad one with the name of the argument."""
    for value in good:
        assert check_argument("limit", value, validator) == value
    for value in bad:
        with pytest.raises(ConfigError, match=f"^limit=.*: must be {remedy}"):
            check_argument("limit", value, validator)


def test_arguments_of_pipelines_and_handlers_are_checked_alike():
    """Wrong arguments are named with value and remedy; scalars of numpy are accepted; near words are suggested."""
    numbers = ps.source([1, 2, 3]) >> ps.store("memory")
    for wrong in (0, -1.0, math.nan, True, "1", None):
        with pytest.raises(ConfigError, match=r"^checkpoint_every_s=.*: must be a number of seconds above 0"):
            ps.Pipeline(numbers, checkpoint_every_s=wrong)
    assert ps.Pipeline(numbers, checkpoint_every_s=np.float32(0.5)).checkpoint_every_s == 0.5
    for wrong in (0, 1.5, True, "1"):
        with pytest.raises(ConfigError, match=r"^limit=.*: must be a whole number of at least 1"):
            ps.Pipeline(numbers).collect(limit=wrong)
    assert len(ps.Pipeline(numbers).collect(limit=np.int64(2))) == 2
    with pytest.raises(ConfigError, match=r"^when_exists='replaced': must be one of .*; did you mean 'replace'"):
        ps.DataHandler("memory", when_exists="replaced")


def test_a_typing_error_gets_a_hint():
    """The nearest of the allowed texts is suggested."""
    with pytest.raises(ConfigError, match=r"did you mean .green."):
        check(one_of("red", "green"), "gren")
