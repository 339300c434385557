"""A real peer of the HERO world, in an environment of its own: `python heros_peer.py ROLE '{…}'` obeys lines of JSON.

Roles: `camera` is a LocalHERO with events, `archive` an archiver of herostools, `observer` a HEROObserver,
`listener` an EventObserver. Each line on stdin is an order, each line on stdout an answer.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

ROLE, SETTINGS = sys.argv[1], json.loads(sys.argv[2])
os.environ["HEROS_ZENOH_CONFIG"] = json.dumps(
    {
        "mode": "peer",
        "listen": {"endpoints": SETTINGS.pop("listen", [])},
        "connect": {"endpoints": SETTINGS.pop("connect", [])},
        "scouting": {"multicast": {"enabled": False}, "gossip": {"enabled": False}},
        # so that a loaded machine loses nothing: what a how-to tells the users of penstock, too
        "transport": {
            "link": {
                "tx": {
                    "queue": {
                        "size": {"data": 16},
                        "congestion_control": {
                            "drop": {"wait_before_drop": 2_000_000, "max_wait_before_drop_fragments": 5_000_000}
                        },
                    }
                }
            }
        },
    }
)


def say(**answer):
    print(json.dumps(answer), flush=True)


def frame(number):
    import numpy

    return numpy.arange(12, dtype=numpy.uint16).reshape(3, 4) * 3 + number


def camera(name):
    from heros import LocalHERO, event

    class Camera(LocalHERO):
        @event
        def acquisition_data(self, image, metadata):
            return image, metadata

        @event
        def acquisition_started(self, metadata):
            return metadata

        @event
        def acquisition_stopped(self, metadata):
            return metadata

        @event
        def observable_data(self, value):
            return value

    with Camera(name) as hero:
        say(ready=True)
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "run":
                acquire(hero, **order)
            elif order["do"] == "burst":
                began = time.perf_counter()
                burst(hero, order["frames"], order["side"], order.get("rate", 0))
                say(done="burst", at_s=time.time(), took_s=time.perf_counter() - began)
                continue
            elif order["do"] == "wait":  # until somebody subscribes: events to nobody are gone
                wait_for_subscriber(hero, name, order["event"])
            else:
                getattr(hero, order["do"])(*order["arguments"])
            say(done=order["do"])


def wait_for_subscriber(hero, name, event):
    from heros.zenoh import session_manager

    session = session_manager.request_session(hero, "heros")
    publisher = session.declare_publisher(f"@object/heros/{name}/{event}")
    while not publisher.matching_status.matching:
        time.sleep(0.01)
    publisher.undeclare()


def acquire(hero, do, frames, first=0, skip=(), bounds=True, stopped=True):
    if bounds:
        hero.acquisition_started({"frames": frames, "rate": 5.0})
    for number in range(first, first + frames):
        if number not in skip:
            hero.acquisition_data(frame(number), {"frame": number, "note": "µm"})
    if bounds and stopped:
        hero.acquisition_stopped({"frames": frames, "frame_count": frames})


def burst(hero, frames, side, rate):
    import numpy

    image = numpy.arange(side * side, dtype=numpy.uint16).reshape(side, side)
    began = time.perf_counter()
    for number in range(frames):
        if rate:
            time.sleep(max(0, began + number / rate - time.perf_counter()))
        hero.acquisition_data(image, {"frame": number, "acquisition_time": time.time_ns()})


def count(frames, root):
    """Report once the last file is there, or no file was added for some seconds; files are not listed meanwhile."""
    before, changed_s = os.stat(root).st_mtime_ns, 0.0
    while not os.path.exists(f"{root}/{frames - 1:06d}.npy") and not 0 < changed_s < time.monotonic() - 5:
        time.sleep(0.02)
        now = os.stat(root).st_mtime_ns
        if now != before:
            before, changed_s = now, time.monotonic()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(stored=len(os.listdir(root)), cpu_s=time.process_time(), peak_mib=peak)


def archive(classname, arguments):
    import herostools.actor

    archiver = getattr(herostools.actor, classname)(**arguments)
    say(ready=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "cpu":
            say(cpu_s=time.process_time())
            continue
        if order["do"] == "count":
            count(order["frames"], order["root"])
            continue
        while not archiver.is_queue_drained():
            time.sleep(0.01)
        archiver._teardown()
        say(done=order["do"])


def observer():
    from heros import HEROObserver

    looking = HEROObserver()
    say(ready=True)
    for _ in sys.stdin:
        say(seen=sorted(looking.known_objects))


def listener(hero, event):
    from heros import EventObserver

    watching = EventObserver(hero, event)
    watching.register_callback(lambda name, value: say(name=name, value=repr(value)))
    say(ready=True)
    for _ in sys.stdin:
        pass


def main():
    {"camera": camera, "archive": archive, "observer": observer, "listener": listener}[ROLE](**SETTINGS)
    os._exit(0)  # the library hangs at exit


if __name__ == "__main__":
    main()
