"""Frames per second that archivers store from the same real HERO camera: herostools' `ArrayArchiver`, and ours.

Each turn starts a camera (`heros.LocalHERO`) and an archiver in processes of their own, and lets the camera emit as
fast as it can; the archivers take turns. Printed for each size: the median of the frames stored per second until the
last one was stored, of the archiver's processor time for a frame, what was lost, and the ratios to herostools. The
camera limits the rate, so that the ratio of processor time says more: `python bench_heros.py [ROUNDS]`.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).parents[1] / "tests"
SIZES = {512: 1000, 64: 5000}
"""Frames of so many rows and columns of uint16, and how many a turn."""
HOW = ("herostools", "penstock", "npy-stack")


def conftest() -> ModuleType:
    """Return the module that starts peers."""
    spec = importlib.util.spec_from_file_location("zenoh_conftest", TESTS / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
        count = 0
        while count < wanted and (not began or time.monotonic() < last + 5):
            time.sleep(0.2)
            now = run.stats().node(store).stored
            if now != count:
                count, last = now, time.monotonic()
                began = began or last
        took_s = max(last - began, 0.2)
        report = run.stop()
        print(
            json.dumps(
                {"stored": report.stored, "took_s": took_s, "cpu_s": time.process_time(), "lost": report.lost_upstream}
            ),
            flush=True,
        )
        return


def turn(peers: Any, python: str, how: str, side: int, frames: int) -> dict[str, float]:
    """Let one archiver store what one camera emits."""
    root = Path(tempfile.mkdtemp(prefix="bench-heros-"))
    endpoint = peers.free_endpoint()
    camera = peers.Peer("camera", {"listen": [endpoint], "name": "cam"}, python=python, script="heros_peer.py")
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
            archiver = peers.Peer(
                "archive", {"how": how, "root": str(root / "stack"), "endpoint": endpoint}, script=__file__
            )
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
        return {
            "per_s": done["stored"] / done["took_s"],
            "cpu_us": (done["cpu_s"] - before["cpu_s"]) / max(1, done["stored"]) * 1e6,
            "lost": frames - done["stored"],
        }
    finally:
        camera.clean_up()
        shutil.rmtree(root, ignore_errors=True)


def main() -> None:
    """Run all sizes."""
    peers = conftest()
    python = peers.heros_environment()
    for side, frames in SIZES.items():
        turns: dict[str, list[dict[str, float]]] = {how: [] for how in HOW}
        for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 7):
            for how in HOW:
                turns[how].append(turn(peers, python, how, side, frames))
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
    else:
        main()
