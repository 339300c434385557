"""Frames per second that archivers store of the same events: herostools' `ArrayArchiver`, and ours.

Each turn starts a sender and an archiver in processes of their own; the archivers take turns. The sender puts the exact
bytes of a HERO's events with a HERO's QoS, by plain zenoh and without encoding each frame, so that not the camera but
the archiver sets the pace; with `camera` it is a real `heros.LocalHERO`. Files go to a RAM disk if there is one (or to
PENSTOCK_BENCH_DIR), so that it does not matter that penstock makes them durable and herostools does not.

Printed for each size: the median of the frames stored per second, from the first to the last one by the times of
their files, of the archiver's processor time for a frame, what was lost, and the ratios to herostools:
`python bench_heros.py [ROUNDS [bare|camera [SIDE]]]`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).parents[1] / "tests"
SIZES = {512: 1000, 64: 10_000}
"""Frames of so many rows and columns of uint16, and how many a turn."""
HOW = ("herostools", "penstock", "npy-stack")
RAM = Path("/dev/shm")
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
        if order["do"] == "wait":
            while not publisher.matching_status.matching:
                time.sleep(0.01)
        else:
            side = order["side"]
            image = encode(numpy.arange(side * side, dtype=numpy.uint16).reshape(side, side))
            for number in range(order["frames"]):
                metadata = encode({"frame": number, "acquisition_time": time.time_ns()})
                publisher.put(b"".join((b"\x82", image, metadata)))
        print(json.dumps({"done": order["do"]}), flush=True)
    session.close()


def by_files(root: Path) -> tuple[int, float]:
    """Return how many files there are, and the seconds from the first to the last."""
    times = [entry.stat().st_mtime_ns for entry in os.scandir(root) if entry.name.endswith(".npy")]
    return len(times), (max(times) - min(times)) / 1e9 if len(times) > 1 else 0.0


def archive(how: str, root: str, endpoint: str) -> None:
    """Be an archiver of penstock: obey a line, and print what was stored and the processor time."""
    import penstock as ps
    from penstock_zenoh import ArrayArchiver
    from penstock_zenoh.hero.source import HeroSource

    if how == "penstock":
        archiver = ArrayArchiver(
            root + "/{{ '%06d' % frame }}.npy",
            object_selector="cam",
            event_name="acquisition_data",
            sequence_key="frame",
            connect=[endpoint],
        )
        run, store = archiver._run, "store"
    else:
        source = HeroSource(
            object_selector="cam", event_name="acquisition_data", sequence_key="frame", connect=[endpoint]
        )
        stack = ps.store("npy-stack", path=root + "/{{ channel }}.npy", name="store")
        run, store = ps.Pipeline(ps.source(source, name="cam") >> stack, dead_letters=root + "-dead").start(), "store"
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "cpu":
            print(json.dumps({"cpu_s": time.process_time()}), flush=True)
            continue
        wanted = order["frames"]
        began = last = 0.0
        count = first = 0
        while count < wanted and (not began or time.monotonic() < last + 5):
            time.sleep(0.01)
            now = run.stats().node(store).stored
            if now != count:
                count, last = now, time.monotonic()
                began, first = (began, first) if began else (last, now)
        took_s = last - began
        report = run.stop()
        print(
            json.dumps(
                {
                    "stored": report.stored,
                    "timed": count - first,
                    "took_s": took_s,
                    "cpu_s": time.process_time(),
                    "lost": report.lost_upstream,
                }
            ),
            flush=True,
        )
        return


def turn(peers: Any, python: str, how: str, side: int, frames: int, sender: str) -> dict[str, float]:
    """Let one archiver store what one camera emits."""
    directory = os.environ.get("PENSTOCK_BENCH_DIR") or (str(RAM) if RAM.is_dir() else None)
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
            archiver.tell("count", frames=frames, root=str(root))
            camera.tell("burst", frames=frames, side=side)
            done = archiver.answer()
            camera.answer()
        finally:
            archiver.clean_up()
        stored, took_s = by_files(root)
        if how == "npy-stack":
            stored, took_s = done["stored"], done["took_s"] * done["stored"] / max(1, done["timed"])
        return {
            "per_s": stored / took_s,
            "cpu_us": (done["cpu_s"] - before["cpu_s"]) / max(1, done["stored"]) * 1e6,
            "lost": frames - stored,
        }
    finally:
        camera.clean_up()
        shutil.rmtree(root, ignore_errors=True)


def main() -> None:
    """Run all sizes."""
    peers = conftest()
    python = peers.heros_environment()
    sender = sys.argv[2] if len(sys.argv) > 2 else "bare"
    sides = [int(sys.argv[3])] if len(sys.argv) > 3 else list(SIZES)
    for side in sides:
        frames = SIZES[side]
        turns: dict[str, list[dict[str, float]]] = {how: [] for how in HOW}
        for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 7):
            for how in HOW:
                turns[how].append(turn(peers, python, how, side, frames, sender))
        median = {
            how: {name: statistics.median(each[name] for each in done) for name in ("per_s", "cpu_us", "lost")}
            for how, done in turns.items()
        }
        theirs = median["herostools"]
        for how, figures in median.items():
            print(
                json.dumps(
                    {
                        "frames": f"{side}x{side}",
                        "archiver": how,
                        "sender": sender,
                        **{name: round(value, 1) for name, value in figures.items()},
                        "times_as_fast": round(figures["per_s"] / theirs["per_s"], 2),
                        "times_less_cpu": round(theirs["cpu_us"] / figures["cpu_us"], 2),
                        "spread": [
                            round(min(t["per_s"] for t in turns[how])),
                            round(max(t["per_s"] for t in turns[how])),
                        ],
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["archive"]:
        archive(**json.loads(sys.argv[2]))
    elif sys.argv[1:2] == ["emit"]:
        emit(**json.loads(sys.argv[2]))
    else:
        main()
