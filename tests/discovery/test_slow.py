"""Plugins that take long, or for ever, are named; the user's Ctrl-C stays the user's."""

from __future__ import annotations

import importlib
import logging
import signal
import subprocess

import pytest

from penstock.plugins import examine


def test_slow_import_is_in_the_report(site, monkeypatch):
    """A plugin whose import takes longer than allowed works, and its report says how long it took."""
    monkeypatch.setattr(examine, "SLOW_S", 0.0)
    site.add("penstock-slow")
    (report,) = site.discover()
    assert report.status == "ok"
    assert report.import_s > 0
    assert "importing its hooks took" in report.reason


def test_endless_import_is_named_while_it_lasts(site, monkeypatch, caplog):
    """While a plugin's import does not end, a warning names it and says how to leave it out."""
    monkeypatch.setattr(examine, "ENDLESS_S", 0.0)
    site.write("gate_of_endless.py", "import threading\nopened = threading.Event()\n")
    gate = importlib.import_module("gate_of_endless")

    class Opener(logging.Handler):
        def emit(self, record):
            gate.opened.set()

    logger = logging.getLogger(examine.__name__)
    opener = Opener()
    logger.addHandler(opener)
    try:
        site.add("penstock-endless", "import gate_of_endless\nassert gate_of_endless.opened.wait(30)\n@hookimpl\n"
                 "def penstock_stores(): return []")  # fmt: skip
        (report,) = site.discover()
    finally:
        logger.removeHandler(opener)
    assert report.status == "ok"
    assert "penstock-endless 1.0" in caplog.text
    assert "PENSTOCK_WITHOUT=penstock-endless" in caplog.text


def test_who_ends_the_process_is_named_by_the_trace(site, shell):
    """If a plugin takes the whole process down, the last line of the trace names it, and without it all is well."""
    site.add("penstock-bad", "import os\nos._exit(7)")
    site.add("penstock-zzz")
    done = shell("plugins", PENSTOCK_TRACE="1")
    assert done.returncode == 7
    assert done.stderr.splitlines()[-1] == "penstock: trace: penstock-bad 1.0: importing penstock_bad.hooks"
    assert shell("plugins", PENSTOCK_WITHOUT=f"penstock-bad,{shell.environment['PENSTOCK_WITHOUT']}").returncode == 0


def test_keyboard_interrupt_is_passed_on_with_the_plugin_named(site):
    """A KeyboardInterrupt during an import is not swallowed, and a note says whose import it was."""
    site.add("penstock-bad", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt) as caught:
        site.discover()
    assert "penstock-bad 1.0" in caught.value.__notes__[0]


def test_ctrl_c_names_the_plugin_that_was_waited_for(site, shell):
    """Ctrl-C while a plugin's import hangs ends the command with status 130 and names the plugin."""
    site.add("penstock-hangs", "import threading\nprint('hanging', flush=True)\nthreading.Event().wait()")
    process = subprocess.Popen(
        [*shell.command, "plugins"], env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stderr.readline() == "hanging\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert out == ""
    assert "penstock: error: interrupted" in err
    assert "penstock-hangs 1.0" in err
    assert "Traceback" not in err
