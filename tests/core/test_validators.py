"""The public validators name the field, the value and the remedy, and refuse None unless it is allowed."""

from __future__ import annotations

import math

import attrs
import pytest

from penstock.errors import ConfigError
from penstock.validators import (
    at_least,
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


def test_a_typing_error_gets_a_hint():
    """The nearest of the allowed texts is suggested."""
    with pytest.raises(ConfigError, match=r"did you mean .green."):
        check(one_of("red", "green"), "gren")
