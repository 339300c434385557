"""Downloads and builds of real servers, made once and kept in the user's cache directory."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock-tests"


class NotThere(Exception):
    """A tool that makes a server is missing; the message says how to get it."""


def kafka_jars() -> Path:
    """Return the directory of Apache Kafka's jars. Raises NotThere."""
    if shutil.which("java") is None:
        raise NotThere("Kafka needs Java 17 or newer: install a JDK (openjdk-17-jdk-headless)")
    place = CACHE / "kafka-4.1.1"
    if not place.is_dir():
        if shutil.which("mvn") is None:
            raise NotThere("Kafka's jars are fetched by Maven: install it (maven), or fill " + str(place))
        with tempfile.TemporaryDirectory(dir=_cache()) as work:
            made = Path(work) / "lib"
            _run("mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies",
                 f"-DoutputDirectory={made}")  # fmt: skip
            _keep(made, place)
    return place


def mongo_binary() -> Path:
    """Return a server of MongoDB's protocol. Raises NotThere."""
    place = CACHE / "ferretdb-1.24.2"
    if not place.is_dir():
        if shutil.which("go") is None:
            raise NotThere("the Mongo server is built by Go: install Go 1.24 or newer, or fill " + str(place))
        with tempfile.TemporaryDirectory(dir=_cache()) as work:
            source = Path(work) / "source"
            shutil.copytree(HERE / "mongo", source)
            _run("go", "mod", "tidy", cwd=source)
            _run("go", "build", "-o", str(Path(work) / "made" / "mongo"), ".", cwd=source)
            _keep(Path(work) / "made", place)
    return place / "mongo"


def free_ports(count: int) -> list[int]:
    """Return free ports of the loopback interface."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def _cache() -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    return CACHE


def _keep(made: Path, place: Path) -> None:
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():  # else another test run was faster
            raise


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise NotThere(f"{' '.join(command[:2])} failed: {(done.stdout + done.stderr)[-800:]}")
