"""Frames per second that archivers store of the same events: herostools' `ArrayArchiver`, and ours.

Each turn starts a sender and an archiver in processes of their own; the archivers take turns. The sender puts the exact
bytes of a HERO's events with a HERO's QoS, by plain zenoh and without encoding each frame, so that not the camera but
the archiver sets the pace; with `camera` it is a real `heros.LocalHERO`. The environment of heros has another version
of zenoh than penstock: only herostools gets the frames of a real camera of this machine through shared memory; those
of the bare sender, as those of a camera of another machine, both get through a socket.

Files go to a RAM disk if there is one, so that it does not matter that penstock makes them durable and herostools does
not, and then to the directory for temporary files; PENSTOCK_BENCH_DIR replaces both.

Printed for each size, directory and archiver:

- `per_s`, the median of the frames stored per second, from the first to the last one by the times of their files, while
  the sender sends as fast as it can. herostools keeps in memory the frames that it has not stored (`peak_mib`), and
  stores most of them when it has received all; penstock holds the sender back;
- `cpu_us`, the archiver's processor time for a frame, which other programs disturb less;
- `sustained_per_s` (with `sustained`), the highest of the tried rates of a sender that both store as it sends: nothing
  is lost, and the last frame is stored soon after it was sent. That is how much a camera may send for hours.

`zenoh` archives nothing: it takes the events as bytes from a channel of zenoh, in Python, and drops them. `bare` does
the same and writes the bytes of each to a file, with no regard to what they are, to names, to kills and to full disks.
No archiver in Python can be faster than these. A goal that is missed on the RAM disk is printed with its reason.

`python bench_heros.py [ROUNDS [bare|camera [SIDE [sustained]]]]`
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).parents[1] / "tests"
SIZES = {512: 1000, 64: 10_000}
"""Frames of so many rows and columns of uint16, and how many a turn."""
GOALS = {
    (512, "penstock"): (
        2,
        "the loop without promises (`bare`) is 1.9 times as fast: by processor time a frame costs it 0.64 ms, "
        "penstock 0.75 to 0.9, herostools 0.97 to 1.04; 0.3 for it to come to Python by a socket, 0.25 for the kernel "
        "to copy it into a file",
    ),
    (64, "penstock"): (
        3,
        "by processor time a frame costs 60 us, herostools' 110, and 25 in the loop without promises (`bare`): 20 are "
        "the system's calls that give a complete file its name, 7 zenoh's; the rest is Python, in one thread at a time",
    ),
    (64, "npy-stack"): (
        20,
        "taking the events without storing them (`zenoh`) is 10 to 20 times as fast, 10 with a real camera: by "
        "processor time a frame costs 30 us, herostools' 110, and 7 where it is only taken",
    ),
}
"""How many times as fast as herostools an archiver shall be, and why it is not on a machine of two cores."""
HOW = ("herostools", "penstock", "npy-stack", "bare", "zenoh")
RAM = Path("/dev/shm")
SUSTAINED_S = 2.0
"""How long a sender of a fixed rate sends."""
LATE_S = 0.2
"""How long after it an archiver that keeps up may store the last frame."""
STEP = 1.1
"""The ratio of successive rates that are tried."""
TX = {
    "queue": {
        "size": {"data": 16},
        "congestion_control": {"drop": {"wait_before_drop": 2_000_000, "max_wait_before_drop_fragments": 5_000_000}},
    }
}
"""What `penstock doctor zenoh` prints for a sender."""


def conftest() -> ModuleType:
    """Return the module that starts peers."""
    spec = importlib.util.spec_from_file_location("zenoh_conftest", TESTS / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def emit(endpoint: str) -> None:
    """Be a sender: obey lines as `heros_peer.py camera` does."""
    import numpy
    import zenoh

    from penstock_zenoh.hero.cbor_out import encode

    config = {
        "mode": "peer",
        "listen": {"endpoints": [endpoint]},
        "scouting": {"multicast": {"enabled": False}, "gossip": {"enabled": False}},
        "transport": {"link": {"tx": TX}},
    }
    session = zenoh.open(zenoh.Config.from_json5(json.dumps(config)))
    publisher = session.declare_publisher(
        "@object/heros/cam/acquisition_data",
        congestion_control=zenoh.CongestionControl.BLOCK,
        reliability=zenoh.Reliability.BEST_EFFORT,
    )
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        began_s = time.perf_counter()
        if order["do"] == "wait":
            while not publisher.matching_status.matching:
                time.sleep(0.01)
        else:
            side = order["side"]
            image = encode(numpy.arange(side * side, dtype=numpy.uint16).reshape(side, side))
            for number in range(order["frames"]):
                if order["rate"]:
                    time.sleep(max(0.0, began_s + number / order["rate"] - time.perf_counter()))
                metadata = encode({"frame": number, "acquisition_time": time.time_ns()})
                publisher.put(b"".join((b"\x82", image, metadata)))
        print(
            json.dumps({"done": order["do"], "at_s": time.time(), "took_s": time.perf_counter() - began_s}), flush=True
        )
    session.close()


def by_files(root: Path) -> tuple[int, float, float]:
    """Return how many files there are, the time of the first and that of the last one."""
    times = [entry.stat().st_mtime_ns / 1e9 for entry in os.scandir(root) if entry.name.endswith(".npy")]
    return len(times), min(times, default=0.0), max(times, default=0.0)


def archive(how: str, root: str, endpoint: str) -> None:
    """Be an archiver of penstock, or none: obey a line, and print what was stored and the processor time."""
    import resource

    if how in ("bare", "zenoh"):
        count, close = taking(endpoint, root if how == "bare" else "")
    else:
        count, close = storing(how, root, endpoint)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "cpu":
            print(json.dumps({"cpu_s": time.process_time()}), flush=True)
            continue
        first = last = 0.0
        first_count = stored = 0
        while stored < order["frames"] and (not first or time.time() < last + 5):
            time.sleep(0.01)
            now = count(order)
            if now != stored:
                stored, last = now, time.time()
                first, first_count = (first, first_count) if first else (last, now)
        close()
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        times = {"first_s": first, "last_s": last, "timed": stored - first_count}
        print(json.dumps({"stored": stored, **times, "cpu_s": time.process_time(), "peak_mib": peak_mib}), flush=True)
        return


def by_directory(root: str, order: Mapping[str, Any]) -> int:
    """Return how many frames are stored if the last one is, else a number that changes when a file is added.

    Files are not listed, which would take a sixth of the processor time of storing them.
    """
    is_done = os.path.exists(f"{root}/{order['frames'] - 1:06d}.npy")
    return order["frames"] if is_done else -os.stat(root).st_mtime_ns


def storing(how: str, root: str, endpoint: str) -> tuple[Callable[[Mapping[str, Any]], int], Callable[[], Any]]:
    """Start an archiver; return functions that count what it has stored, and that end it."""
    import penstock as ps
    from penstock_zenoh import ArrayArchiver
    from penstock_zenoh.hero.source import HeroSource

    heros = {"object_selector": "cam", "event_name": "acquisition_data", "sequence_key": "frame"}
    if how == "penstock":
        archiver = ArrayArchiver(root + "/{{ '%06d' % frame }}.npy", **heros, connect=[endpoint])
        return partial(by_directory, root), archiver._stop
    source = ps.source(HeroSource(**heros, connect=[endpoint]), name="cam")
    stack = ps.store("npy-stack", path=root + "/{{ channel }}.npy", name="store")
    run = ps.Pipeline(source >> stack, dead_letters=root + "-dead").start()
    file = Path(root, "cam.npy")

    def count(order: Mapping[str, Any]) -> int:
        return file.stat().st_size // (2 * order["side"] ** 2) if file.exists() else 0

    return count, run.stop


def taking(endpoint: str, root: str) -> tuple[Callable[[Mapping[str, Any]], int], Callable[[], Any]]:
    """Take the events as bytes, and write them below `root` if it is given; return functions as `storing`."""
    import zenoh

    from penstock_zenoh.session import Network

    session = Network(connect=(endpoint,)).open()
    subscriber = session.declare_subscriber("@object/heros/cam/acquisition_data", zenoh.handlers.FifoChannel(256))
    taken = 0

    def take() -> None:
        nonlocal taken
        try:
            while True:
                payload = subscriber.recv().payload.to_bytes()
                if root:
                    file = os.open(f"{root}/{taken}.npy", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
                    os.write(file, payload)
                    os.close(file)
                taken += 1
        except zenoh.ZError:  # the session is closed
            pass

    thread = threading.Thread(target=take)
    thread.start()

    def close() -> None:
        session.close()
        thread.join()

    return lambda order: taken, close


def turn(
    peers: Any, python: str, how: str, side: int, frames: int, sender: str, directory: str, rate: float = 0
) -> dict[str, float]:
    """Let one archiver store what one camera emits, at this rate or as fast as it can."""
    root = Path(tempfile.mkdtemp(prefix="bench-heros-", dir=directory))
    endpoint = peers.free_endpoint()
    if sender == "camera":
        camera = peers.Peer("camera", {"listen": [endpoint], "name": "cam"}, python=python, script="heros_peer.py")
    else:
        camera = peers.Peer("emit", {"endpoint": endpoint}, script=__file__)
    try:
        camera.answer()
        if how == "herostools":
            arguments = {
                "save_template": str(root) + "/{{ '%06d' % frame }}.npy",
                "object_selector": "cam",
                "event_name": "acquisition_data",
            }
            settings = {"connect": [endpoint], "classname": "ArrayArchiver", "arguments": arguments}
            archiver = peers.Peer("archive", settings, python=python, script="heros_peer.py")
        else:
            archiver = peers.Peer("archive", {"how": how, "root": str(root), "endpoint": endpoint}, script=__file__)
        try:
            archiver.answer()
            camera.do("wait", event="acquisition_data")
            before = archiver.do("cpu")
            archiver.tell("count", frames=frames, root=str(root), side=side)
            camera.tell("burst", frames=frames, side=side, rate=rate)
            done = archiver.answer()
            sent = camera.answer()
        finally:
            archiver.clean_up()
        if how in ("herostools", "penstock", "bare"):
            stored, first_s, last_s = by_files(root)
            per_s = (stored - 1) / max(last_s - first_s, 0.001)
        else:
            stored, last_s = done["stored"], done["last_s"]
            per_s = done["timed"] / max(last_s - done["first_s"], 0.001)
        return {
            "per_s": per_s,
            "cpu_us": (done["cpu_s"] - before["cpu_s"]) / max(1, stored) * 1e6,
            "lost": frames - stored,
            "peak_mib": done["peak_mib"],
            "late_s": last_s - sent["at_s"],
            "sent_per_s": frames / sent["took_s"],
        }
    finally:
        camera.clean_up()
        shutil.rmtree(root, ignore_errors=True)


def sustained(a_turn: Callable[[int, float], dict[str, float]], guess: float) -> float:
    """Return the highest rate of `guess` times a power of `STEP` at which an archiver keeps up; 0 for none.

    It may be that of the sender: no rate is tried that it does not reach.

    Args:
        a_turn: Takes how many frames to send, and the rate.
        guess: Frames per second with which to begin.
    """

    def keeps_up(rate: float) -> bool:
        done = a_turn(round(rate * SUSTAINED_S), rate)
        is_held_back = done["sent_per_s"] * STEP < rate
        return not done["lost"] and done["late_s"] < LATE_S and not is_held_back

    rate = guess
    if keeps_up(rate):
        while keeps_up(rate * STEP):
            rate *= STEP
        return rate
    while rate > guess / 20:
        rate /= STEP
        if keeps_up(rate):
            return rate
    return 0.0


def measure(side: int, directory: str, sender: str, rounds: int, *, is_sustained: bool) -> None:
    """Print the figures of all archivers for one size and directory."""
    peers = conftest()
    python = peers.heros_environment()

    def a_turn(how: str, frames: int, rate: float = 0) -> dict[str, float]:
        return turn(peers, python, how, side, frames, sender, directory, rate)

    turns: dict[str, list[dict[str, float]]] = {how: [] for how in HOW}
    for _ in range(rounds):
        for how in HOW:
            turns[how].append(a_turn(how, SIZES[side]))
    names = ("per_s", "cpu_us", "lost", "peak_mib")
    median = {how: {name: statistics.median(each[name] for each in turns[how]) for name in names} for how in HOW}
    if is_sustained:
        for how in ("herostools", "penstock", "npy-stack"):
            median[how]["sustained_per_s"] = sustained(partial(a_turn, how), median[how]["per_s"] / STEP**4)
    theirs = median["herostools"]
    for how, figures in median.items():
        ratios = {
            "times_as_fast": figures["per_s"] / theirs["per_s"],
            "times_less_cpu": theirs["cpu_us"] / figures["cpu_us"],
        }
        if "sustained_per_s" in figures:
            ratios["times_sustained"] = figures["sustained_per_s"] / max(1, theirs["sustained_per_s"])
        rates = [turn["per_s"] for turn in turns[how]]
        line = {"frames": f"{side}x{side}", "directory": directory, "archiver": how, "sender": sender}
        line |= {name: round(value, 1) for name, value in figures.items()}
        line |= {name: round(value, 2) for name, value in ratios.items()}
        line["spread"] = [round(min(rates)), round(max(rates))]
        if (side, how) in GOALS:
            goal, reason = GOALS[side, how]
            is_met = ratios["times_as_fast"] >= goal
            line |= {"goal": goal, "is_met": is_met} | ({} if is_met or directory != str(RAM) else {"since": reason})
        print(json.dumps(line), flush=True)


def main() -> None:
    """Run all sizes and directories."""
    given = dict(enumerate(sys.argv))
    rounds, sender = int(given.get(1, 7)), given.get(2, "bare")
    sides = [int(given[3])] if 3 in given else list(SIZES)
    own = os.environ.get("PENSTOCK_BENCH_DIR")
    directories = [own] if own else [*([str(RAM)] if RAM.is_dir() else []), tempfile.gettempdir()]
    for side in sides:
        for directory in directories:
            measure(side, directory, sender, rounds, is_sustained=given.get(4) == "sustained")


if __name__ == "__main__":
    if sys.argv[1:2] == ["archive"]:
        archive(**json.loads(sys.argv[2]))
    elif sys.argv[1:2] == ["emit"]:
        emit(**json.loads(sys.argv[2]))
    else:
        main()
