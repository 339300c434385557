"""What holds for every test of the workspace: they test what is installed, and on CI none is skipped."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator
from typing import TypeVar

import hypothesis
import pytest

hypothesis.settings.register_profile("penstock", deadline=None)  # no test asserts how long something takes
hypothesis.settings.load_profile("penstock")

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as in a job in the background; programs of tests would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
ON_CI = os.environ.get("CI", "").lower() in ("1", "true")


_last_file = ""


def pytest_runtest_logstart(location: tuple[str, int | None, str]) -> None:
    """Before each file, exclude existing objects from the checks for leaks, each of which scans all objects.

    With thousands of collected tests, every scan takes a tenth of a second: more than most tests.
    """
    global _last_file
    if location[0] != _last_file:
        _last_file = location[0]
        gc.collect()
        gc.freeze()


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
    if ON_CI and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which fails on CI: {reason}"
    return report
