"""The two pipelines of the demo, as data: one for each of its processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from penstock.compose.factories import decoder, processor, source, store
from penstock.compose.node import Edge
from penstock.compose.pipeline import Pipeline
from penstock.compose.retry import Retry

COMPONENTS = {
    "penstock-zenoh": [("source", "zenoh"), ("store", "zenoh")],
    "penstock-kafka-av": [
        ("source", "video"),
        ("source", "test-picture"),
        ("decoder", "av"),
        ("processor", "background-difference"),
        ("processor", "thumbnail"),
    ],
    "penstock-npy": [("store", "npy")],
    "penstock-lmdb": [("store", "lmdb")],
}
"""The components of the demo, by distribution."""

THUMBNAIL_HEIGHT = 64
ONCE = Retry(times=1)
"""No retry: the demo plays one video once, so a failed source ends it."""
FEW = Edge(capacity=16)
"""A short queue with backpressure, since frames are large."""


@attrs.frozen(kw_only=True)
class Scene:
    """The settings that both processes share.

    Attributes:
        channel: Channel of the packets.
        video: File or URL to play; None for the test picture.
        frames: Length of the test picture, in frames.
        loop: How many times the video is played.
        key: Root of the zenoh keys, unique to this demo.
        rendezvous: The loopback endpoint at which the processes connect.
        dead_letters: Directory for records that fail in either process.
    """

    channel: str
    video: str | None = None
    frames: int = 150
    loop: int = 1
    key: str
    rendezvous: str
    dead_letters: str

    def to_json(self) -> str:
        """Return the scene as JSON."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Scene:
        """Return the scene of a result of `to_json`."""
        return cls(**json.loads(text))

    def picture(self) -> tuple[str, dict[str, Any]]:
        """Return the name and the settings of the source in process 1."""
        if self.video is None:
            return "test-picture", {"frames": self.frames, "channel": self.channel}
        return "video", {"url": self.video, "loop": self.loop, "channel": self.channel}


def publishing(scene: Scene) -> Pipeline:
    """Return the pipeline of process 1: the packets of a video to zenoh, once process 2 is connected."""
    name, settings = scene.picture()
    packets = source(name, **settings, name="video", retry=ONCE)
    wire = store(
        "zenoh", key=f"{scene.key}/{{{{ channel }}}}", rendezvous=scene.rendezvous, name="publish", on_error="stop"
    )
    return Pipeline(packets >> wire, name="process 1", dead_letters=scene.dead_letters)


def keeping(scene: Scene, directory: Path) -> Pipeline:
    """Return the pipeline of process 2: packets from zenoh, decoded; frames and moving objects to two stores each.

    Args:
        scene: The settings of the demo.
        directory: Directory of all results.
    """
    packets = source(
        "zenoh", key=f"{scene.key}/**", rendezvous=scene.rendezvous, until_end=True, name="receive", retry=ONCE
    )
    frames = packets >> decoder("av", name="decode")
    moved = frames >> FEW >> processor("background-difference", name="difference")
    small = moved >> processor("thumbnail", height=THUMBNAIL_HEIGHT, name="thumbnail")
    return Pipeline(
        frames >> FEW >> store("npy", **npy_settings(directory / "frames"), name="frames to npy"),
        frames >> FEW >> store("lmdb", path=directory / "frames.lmdb", name="frames to lmdb"),
        small >> FEW >> store("npy", **npy_settings(directory / "moved"), name="moved to npy"),
        small >> FEW >> store("lmdb", path=directory / "moved.lmdb", name="moved to lmdb"),
        name="process 2",
        dead_letters=scene.dead_letters,
    )


def npy_settings(directory: Path) -> dict[str, Any]:
    """Return the settings of a store that writes one file per frame below this directory."""
    return {"path": "{{ channel }}/{{ '%06d' % seq }}.npy", "root": str(directory)}
