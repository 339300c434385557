"""What holds for every test of the workspace: they test what is installed, and on CI none is skipped."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
ON_CI = os.environ.get("CI", "").lower() in ("1", "true")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one on CI: there, everything that a test needs has been installed."""
    report = yield
    return _not_skipped(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a skipped module into a failed one on CI."""
    report = yield
    return _not_skipped(report)


def _not_skipped(report: Report) -> Report:
    if not ON_CI or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return report
    where, _, reason = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, report.longrepr)
    if "penstock/testing/" in Path(where).as_posix():
        return report  # the contract has a test for an ability that this component does not claim
    report.outcome = "failed"
    report.longrepr = f"skipped, which fails on CI: {reason}"
    return report
