"""What zenoh does to a process: panics, forks, ends; and that the README is right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.errors import ConfigError, SourceError, StoreError
from penstock.record import Record
from penstock_zenoh import library_errors, publishing
from penstock_zenoh.source import ZenohSource
from penstock_zenoh.store import ZenohStore


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )


def read(source: ZenohSource, count: int) -> list[Record]:
    records: list[Record] = []
    while len(records) < count:
        more = source.read(count, 20)
        assert more
        records += more
    return records


@pytest.mark.parametrize("length", [65_535, 65_536, 70_000])
def test_a_key_that_is_too_long_costs_its_own_record(length, endpoint, opened):
    """A key of 65,535 bytes is sent, a longer one is an error of its record; the neighbours arrive in order."""
    source = opened(ZenohSource(key="**", rendezvous=endpoint))
    store = opened(ZenohStore(key="{{ channel }}", rendezvous=endpoint))
    records = [Record(b"x", channel=channel) for channel in ("before", "x" * length, "after")]
    if length > library_errors.MOST_KEY_BYTES:
        with pytest.raises(StoreError, match=r"1 of 3 records not published.*and zenoh can send 65535") as error:
            store.write(records)
        assert [record.channel for record, _ in error.value.failed] == ["x" * length]
        assert not error.value.retryable
        records.pop(1)
    else:
        store.write(records)
    store.sync()
    assert [record.channel for record in read(source, len(records))] == [record.channel for record in records]


def test_a_panic_of_the_library_costs_its_own_record(endpoint, opened, monkeypatch, capfd):
    """A real panic poisons a session: its record fails, the others go over a new one, `sync` says what is open."""
    source = opened(ZenohSource(key="**", rendezvous=endpoint, listen=[endpoint]))
    store_ = opened(ZenohStore(key="{{ channel }}", rendezvous=endpoint, connect=[endpoint]))
    monkeypatch.setattr(publishing, "key_problem", lambda key: "")
    records = [Record(b"x", channel=channel) for channel in ("before", "x" * 65_536, "after")]
    with pytest.raises(StoreError, match="1 of 3 records not published") as error:
        store_.write(records)
    assert [record for record, _ in error.value.failed] == [records[1]]
    assert "panicked" in capfd.readouterr().err
    store_.write([Record(b"x", channel="last")])
    assert [record.channel for record in read(source, 3)] == ["before", "after", "last"]
    with pytest.raises(StoreError, match=r"had not confirmed [12] records when the session failed"):
        store_.sync()
    store_.sync()


@pytest.mark.parametrize("kind", [ZenohSource, ZenohStore])
def test_a_key_that_cannot_be_announced_is_refused(kind):
    """A key so long that the token of its end could not be declared is named before anything opens."""
    with pytest.raises(ConfigError, match="30000"):
        kind(key="x" * 30_001)


def test_what_ends_a_program_is_no_error_of_the_library():
    """Ctrl-C and sys.exit are passed on; panics are distinguished from errors."""
    panic = type("PanicException", (BaseException,), {})
    assert library_errors.is_library_error(panic())
    assert library_errors.has_panicked(panic())
    assert library_errors.is_library_error(ValueError())
    assert not library_errors.has_panicked(ValueError())
    assert not library_errors.is_library_error(KeyboardInterrupt())
    assert not library_errors.has_panicked(SystemExit())


PAIRS = {
    "zenoh": """
from penstock_zenoh.source import ZenohSource
from penstock_zenoh.store import ZenohStore
source = ZenohSource(key="lab/**", rendezvous=sys.argv[1])
store = ZenohStore(key="lab/a", rendezvous=sys.argv[1], timeout_s=20)
""",
    "hero": """
from penstock_zenoh.hero.source import HeroSource
from penstock_zenoh.hero.store import HeroStore
source = HeroSource(object_selector="cam", event_name="data", listen=[sys.argv[1]])
store = HeroStore(hero="cam", event_name="data", connect=[sys.argv[1]], wait_for_observers=True, timeout_s=20)
""",
}
FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from penstock.errors import SourceError, StoreError
from penstock.record import Record
{pair}
source.open()
store.open()
store.write([Record(b"1")])
child = os.fork()
if not child:
    calls = [lambda: source.read(1, 1), lambda: store.write([Record(b"2")]), getattr(store, "sync", None)]
    for call in filter(None, calls):
        try:
            call()
        except (SourceError, StoreError) as error:
            assert "another process" in str(error)
        else:
            os._exit(9)
    if sys.argv[2] == "close":
        store.close()
        source.close()
    sys.exit(3)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
store.write([Record(b"3")])
got = []
while len(got) < 2:
    got += source.read(2, 20)
store.close()
source.close()
print(status, [record.data for record in got])
"""


@pytest.mark.parametrize("how", ["close", "leave"])
@pytest.mark.parametrize("pair", PAIRS)
def test_a_forked_child_ends(pair, how, endpoint):
    """A child forked while ends are open leaves by sys.exit, closed or not, and its parent's ends work on."""
    done = run(FORKED.format(pair=PAIRS[pair]), endpoint, how)
    assert done.stdout == "3 [b'1', b'3']\n", done.stderr


ENDS = {
    "source:ZenohSource": "key='lab/a', rendezvous=sys.argv[1]",
    "store:ZenohStore": "key='lab/a', rendezvous=sys.argv[1]",
    "hero.source:HeroSource": "object_selector='cam', event_name='data', listen=[sys.argv[1]]",
    "hero.store:HeroStore": "hero='cam', event_name='data', listen=[sys.argv[1]], discoverable=True",
}


@pytest.mark.parametrize("kind", ENDS)
def test_a_process_that_opened_and_closed_an_end_ends_by_itself(kind, endpoint):
    """Nothing of zenoh keeps an interpreter from its end."""
    module, name = kind.split(":")
    done = run(
        f"import sys\nfrom penstock_zenoh.{module} import {name} as End\n"
        f"end = End({ENDS[kind]}); end.open(); end.close(); print('closed')",
        endpoint,
    )
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr


def test_the_readme_runs(tmp_path, endpoint):
    """The first example of the README runs unchanged, and the published records are stored."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    first = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    code = first.replace('key="', f'rendezvous="{endpoint}", key="')
    done = run(f"{code}\nassert report.ok and report.stored == 3, str(report)\nassert not reader.is_alive()")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_source_of_another_process_is_not_read(opened, endpoint, monkeypatch):
    """A fork that uses its parent's source or store gets an error."""
    source = opened(ZenohSource(key="lab/a", rendezvous=endpoint))
    real = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: real + 1)
    with pytest.raises(SourceError, match="another process"):
        source.read(1, 0)
    monkeypatch.undo()
