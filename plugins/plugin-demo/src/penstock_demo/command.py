"""`penstock demo`: sends a video from one process to another, decodes it, and writes it to two stores."""

from __future__ import annotations

import logging
import re
import secrets
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.console import printable_lines, sentence
from penstock.errors import PenstockError, PluginError, RunError, SourceError, UnknownComponentError
from penstock_demo.pipelines import COMPONENTS, Scene, keeping
from penstock_demo.process import Publisher
from penstock_demo.results import compare, draw_contact_sheet, new_directory, remove_if_empty

if TYPE_CHECKING:
    from penstock.plugins import Plugins
    from penstock.report.run_report import RunReport
    from penstock.run.run import Run

UNSEEN_S = 5.0
"""Seconds to wait for the first packet after the publisher has ended."""


@click.command()
@click.option("--video", metavar="FILE", help="Video to play: a file, or an RTSP or HTTP URL. Default: a test picture.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("penstock-demo"), show_default=True,
              help="Directory for the results; each demo makes a new one in it.")  # fmt: skip
@click.option("--frames", type=click.IntRange(1), help="Length of the test picture in frames.  [default: 150]")
@click.option("--loop", type=click.IntRange(1), default=1, show_default=True, help="How often to play the video.")
def demo(video: str | None, out: Path, frames: int | None, loop: int) -> None:
    """Show what penstock does, on real video.

    Process 1 publishes the packets of a video over zenoh. Process 2, this one, decodes them, and writes every frame,
    and a thumbnail of moving objects, to .npy files and to LMDB. Then it prints the reports, draws a contact sheet,
    reads a few frames from both stores, and compares them.
    """
    if video is not None and frames is not None:
        raise click.UsageError("--frames is the length of the test picture; leave it out with --video")
    if video is None and loop != 1:
        raise click.UsageError("--loop plays a video again; for a longer test picture use --frames")
    if not (click.get_current_context().obj or {}).get("debug"):
        logging.getLogger().addHandler(logging.NullHandler())  # the reports contain all warnings, once
    plugins = installed_plugins()
    if video is not None:
        check_video(video, plugins)
    directory = new_directory(out)
    scene = Scene(
        channel=channel_of(video),
        video=video,
        frames=frames or 150,
        loop=loop,
        key=f"penstock-demo/{secrets.token_hex(8)}",
        rendezvous=f"tcp/127.0.0.1:{free_port()}",
        dead_letters=str(directory / "dead-letters"),
    )
    try:
        show(scene, directory, plugins)
    finally:
        remove_if_empty(directory)


def installed_plugins() -> Plugins:
    """Find the installed plugins. Raises PluginError with the pip command if the demo needs one that is missing."""
    from penstock.plugins import Plugins  # a local import, to keep --help fast

    plugins = Plugins.discover()
    missing = [name for name, parts in COMPONENTS.items() if any(not _found(plugins, *part) for part in parts)]
    if missing:
        extras = ",".join(name.removeprefix("penstock-") for name in missing)
        raise PluginError(
            f"the demo needs {', '.join(missing)}: not installed, or broken (see 'penstock plugins'); "
            f"pip install 'penstock[{extras}]'"
        )
    for parts in COMPONENTS.values():
        for role, name in parts:
            plugins.load(role, name)
    return plugins


def _found(plugins: Plugins, role: str, name: str) -> bool:
    try:
        plugins.find(role, name)
    except UnknownComponentError:
        return False
    return True


def check_video(video: str, plugins: Plugins) -> None:
    """Open the video and close it again, before anything is created. Raises SourceError with the reason."""
    if "://" not in video and not Path(video).is_file():
        what = "is a directory" if Path(video).is_dir() else "does not exist"
        raise SourceError(f"--video {video!r}: {what}: name a video file, or an RTSP or HTTP URL")
    source: Any = plugins.load("source", "video")(url=video)
    try:
        source.open()
    finally:
        source.close()


def channel_of(video: str | None) -> str:
    """Return a channel name made from the video's name, legal in any key and file name."""
    if video is None:
        return "test-picture"
    return re.sub(r"[^A-Za-z0-9]+", "-", Path(video).stem).strip("-")[:60] or "video"


def free_port() -> int:
    """Return a free TCP port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def show(scene: Scene, directory: Path, plugins: Plugins) -> None:
    """Run both processes and print their results. Raises RunError if these are not consistent."""
    with Publisher(scene) as publisher:
        publisher.wait_until_ready()
        report, interrupted = follow(keeping(scene, directory).start(plugins=plugins), publisher)
        sent = None if interrupted else publisher.outcome()
    if sent is not None:
        click.echo(f"\n{printable_lines(sent['report'])}")
    click.echo(f"\n{printable_lines(str(report))}\n")
    if sent is None:
        interrupt = KeyboardInterrupt()
        interrupt.add_note(f"(both processes have ended; the stored frames are complete, in {directory})")
        raise interrupt
    problems = problems_of(report, sent)
    if report.stored:
        click.echo(f"frames      {directory / 'frames' / scene.channel} and {directory / 'frames.lmdb'}")
        click.echo(f"movement    {directory / 'moved' / scene.channel} and {directory / 'moved.lmdb'}")
        problems += read_back(scene, directory, plugins)
    if problems:
        raise RunError(f"the demo did not succeed: {'; '.join(problems)}")


def read_back(scene: Scene, directory: Path, plugins: Plugins) -> list[str]:
    """Draw the contact sheet and compare both stores; return the problems found."""
    try:
        click.echo(f"picture     {draw_contact_sheet(directory, plugins)}")
        comparison = compare(directory, scene.channel, plugins)
    except (PenstockError, OSError) as error:  # e.g. a full disk, which the run reported too
        return [f"the stored frames cannot be read or drawn: {sentence(error)}"]
    click.echo(f"read back   {comparison}")
    return [] if comparison.ok else ["the two stores differ"]


def problems_of(report: RunReport, sent: dict[str, Any]) -> list[str]:
    """Return the problems of process 1, of process 2, and between them."""
    problems = [f"process 1: {problem}" for problem in sent["problems"]]
    problems += [f"process 2: {problem}" for problem in report.problems]
    if sent["stored"] != report.received:
        problems.append(f"process 1 published {sent['stored']} packets, process 2 received {report.received}")
    if not problems and not report.stored:
        problems.append("the video contains no frame")
    return problems


def follow(run: Run, publisher: Publisher) -> tuple[RunReport, bool]:
    """Wait for the end of process 2 and show its counters; return its report and whether it was interrupted.

    Ctrl-C or SIGTERM drains; a second one aborts.
    """
    from penstock.run.progress import Progress  # a local import, to keep --help fast

    interrupted = False
    ended_at: float | None = None
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Progress(run):
            while True:
                try:
                    report = run.wait(0.2)
                    if report is not None:
                        return report, interrupted
                    if publisher.has_ended():
                        ended_at = ended_at or time.monotonic()
                        if time.monotonic() - ended_at > UNSEEN_S and not run.stats().total("received"):
                            run.stop_soon()
                except KeyboardInterrupt:
                    run.abort() if interrupted else run.stop_soon()
                    interrupted = True
    finally:
        signal.signal(signal.SIGTERM, before)
        if not sys.stderr.isatty():
            click.echo(err=True)  # rich ends its last line only on a terminal
