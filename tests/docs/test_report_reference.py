"""The reference of a report and the code are the same: columns, fields, and what makes a run not ok."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import attrs
import pytest

import penstock as ps
from penstock.report.account import Account, EdgeAccount, NodeAccount
from penstock.report.run_report import RunReport
from penstock.report.text import edge_rows, node_rows

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "report.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([\w ]+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


def tables(section):
    """Return the tables of a section, each as the names in its first column; no other cell but the unit is empty."""
    found = []
    for table in re.findall(r"^\|---.*\n((?:\|.*\n)+)", SECTIONS[section], re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
        assert all(row[0] and row[-1] for row in rows), section
        found.append([row[0].strip("`") for row in rows])
    return found


@pytest.fixture(scope="module")
def report():
    """Return the report of a small run."""
    return ps.Pipeline(ps.source([1, 2]) >> ps.processor(lambda record: record, name="pass") >> ps.store("null")).run()


def test_columns_are_on_the_page(report):
    """The two tables of the page have the columns that a report prints, in their order."""
    assert tables("The table of nodes") == [list(node_rows(report)[0])]
    assert tables("The table of edges") == [list(edge_rows(report)[0])]


@pytest.mark.parametrize(("rows", "value"), [(node_rows, NodeAccount), (edge_rows, EdgeAccount)])
def test_columns_have_the_names_of_fields_and_units(rows, value, report):
    """Each column has the name of the field that it shows, with the unit if it has one."""
    names = {field.name for field in attrs.fields(value)} | {"records_out"}
    shown = [heading.replace(" ms", "_s").removesuffix(" /s") for heading in rows(report)[0]]
    assert set(shown) <= names


@pytest.mark.parametrize("value", [RunReport, Account, NodeAccount, EdgeAccount])
def test_fields_are_on_the_page(value):
    """The first table of each value has its fields, in the order of the code."""
    assert tables(value.__name__)[0] == [field.name for field in attrs.fields(value)]


def test_properties_are_on_the_page():
    """Whatever is computed from the fields is on the page, with nothing that is not."""
    properties = {name for name, _ in inspect.getmembers(RunReport, lambda each: isinstance(each, property))}
    assert set(tables("RunReport")[1]) == properties
    computed = {name for name, _ in inspect.getmembers(NodeAccount, lambda each: isinstance(each, property))}
    assert computed <= set(re.findall(r"`(\w+)`", SECTIONS["NodeAccount"].rpartition("|")[2]))


def law(section):
    """Return the equation of a section as the names on its two sides."""
    left, right = re.findall(r"`([\w +\n]+?) = ([\w +\n]+?)`", SECTIONS[section])[0]
    return [re.findall(r"\w+", side) for side in (left, right)]


@pytest.mark.parametrize("value", [NodeAccount, EdgeAccount])
def test_the_sums_of_the_page_are_those_that_are_checked(value):
    """Any one count that is missing on either side of the equation of the page is an imbalance."""
    names = {"node": "n", "role": "store", "component": "c", "edge": "a -> b", "before": "a", "after": "b"}
    fixed = {field.name: names[field.name] for field in attrs.fields(value) if field.name in names}

    def imbalances(**counts):
        one = value(**fixed, **counts)
        nodes, edges = ([one], []) if value is NodeAccount else ([], [one])
        return Account(nodes=nodes, edges=edges, elapsed_s=1.0).imbalances()

    left, right = law(value.__name__)
    for one in left:
        for other in right:
            assert imbalances(**{one: 1, other: 1}) == [], (one, other)
            assert imbalances(**{other: 1}), other


WRONG = {
    "dead_lettered": dict.fromkeys(["records_in", "dead_lettered"], 1),
    "skipped": dict.fromkeys(["records_in", "skipped"], 1),
    "failed": dict.fromkeys(["records_in", "failed"], 1),
    "lost": dict.fromkeys(["records_in", "lost"], 1),
    "lost_upstream": {"lost_upstream": 1},
    "rejected": {"rejected": 1},
}
FINE = ["dropped_upstream", "retries", "restarts", "reopened"]


@pytest.mark.parametrize("name", WRONG)
def test_each_count_of_the_list_makes_a_run_not_ok(name):
    """Each count that the page lists is a problem by itself, and named there."""
    said = SECTIONS["Why a run is not ok"].partition("These are not problems")[0]
    assert name.split("_")[-1].replace("lettered", "dead-lettered") in said
    role = "source" if name in ("lost_upstream", "rejected") else "store"
    node = NodeAccount(node="n", role=role, component="c", **WRONG[name])
    assert not RunReport(name="run", account=Account(nodes=[node], edges=[], elapsed_s=1.0)).ok


@pytest.mark.parametrize("name", FINE)
def test_what_the_page_allows_is_ok(name):
    """A count that the page allows makes no run fail."""
    node = NodeAccount(node="n", role="source", component="c", **{name: 1})
    assert RunReport(name="run", account=Account(nodes=[node], edges=[], elapsed_s=1.0)).ok
