"""The archivers of herostools: as classes, as subclasses, and from BOSS's JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy
import pytest

import penstock_zenoh
from penstock.compose.pipeline import Pipeline
from penstock.errors import ComponentLoadError, ConfigError, RunError
from penstock_zenoh import ArrayArchiver, HERODataArchiver, JsonArchiver
from penstock_zenoh.boss_form import is_boss
from penstock_zenoh.hero.name_template import NameTemplate, path_template

SEED = "{{ file_path }}/testimg-{{ '%04d' % ( frame / 2 ) |round(0, 'floor') }}-{{ frame % 2 }}.npy"


def files(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


@pytest.fixture
def archiver_of():
    """Make archivers that are always stopped at the end."""
    made = []

    def make(kind, **arguments):
        made.append(getattr(penstock_zenoh, kind)(**arguments))
        return made[-1]

    yield make
    for each in made:
        each._stop()


@pytest.fixture
def place(tmp_path, monkeypatch, endpoint):
    """An empty directory, and a network of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEROS_ZENOH_CONFIG", raising=False)
    return {"listen": [endpoint]}


def test_a4_the_seeds_example_gives_its_three_files(tmp_path, place):
    """The documented template and defaults give the documented names, and nothing else is written anywhere."""
    archive = tmp_path / "images"
    with ArrayArchiver(
        object_selector="my-camera",
        event_name="acquisition_data",
        default_metadata={"file_path": str(archive)},
        save_template=SEED,
        **place,
    ) as archiver:
        for frame in range(3):
            archiver.feed("my-camera", (numpy.full((2, 2), frame), {"frame": frame}))
    assert archiver.report.ok, str(archiver.report)
    assert files(tmp_path) == [f"images/testimg-{name}.npy" for name in ("0000-0", "0000-1", "0001-0")]
    assert numpy.load(archive / "testimg-0001-0.npy")[0, 0] == 2


def test_a4_positions_defaults_and_attributes(place):
    """Arguments have the order of herostools, and attributes have its names."""
    archiver = ArrayArchiver("{{ frame }}{{ _split_index }}.npy", True, "cam", "data", {"a": 1}, 3, **place)
    archiver._teardown()
    assert (archiver.split_data_array, archiver.metadata, archiver.max_retries) == (True, {"a": 1}, 3)
    assert archiver.name_template.render({"frame": 7}, _split_index=1) == "71.npy"
    archiver = JsonArchiver("{{ frame }}.json", object_selector="cam", event_name="data", **place)
    archiver._stop()
    archiver._stop()
    assert (archiver.merge_metadata, archiver.metadata, archiver.max_retries) == (False, {}, 5)
    assert archiver.is_queue_drained()
    with pytest.raises(RunError, match="stopped"):
        archiver.feed("cam", ({}, {}))


def test_a4_numbers_and_lists_of_numbers_are_arrays(tmp_path, place):
    """Array-like data is stored as an array, as herostools does; text and uneven lists are dead-lettered."""

    class Own(ArrayArchiver):
        def _store(self, source_name, payload, metadata):
            super()._store(source_name, payload, metadata)

    for kind in (ArrayArchiver, Own):
        with kind(kind.__name__ + "-{{ n }}.npy", False, "cam", "data", None, 0, "lab", **place) as archiver:
            for number, data in enumerate(([[1, 2], [3, 4]], (1.5, 2.5), 7, True, 1j, [], [1, [2]], "text", None)):
                archiver.feed("cam", (data, {"n": number}))
        assert (archiver.report.stored, archiver.report.dead_lettered) == (6, 3)
        for number, data in enumerate(([[1, 2], [3, 4]], [1.5, 2.5], 7, True, 1j, [])):
            stored = numpy.load(tmp_path / f"{kind.__name__}-{number}.npy")
            assert stored.tolist() == data
            assert stored.dtype == numpy.asarray(data).dtype


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"save_template": ""}, "save_template=''"),
        ({"save_template": 5}, "save_template=5"),
        ({"max_retries": -1}, "max_retries=-1"),
        ({"max_retries": None}, "max_retries=None"),
        ({"default_metadata": "images"}, "default_metadata='images'"),
    ],
)
@pytest.mark.parametrize("kind", [ArrayArchiver, JsonArchiver])
def test_a_wrong_argument_is_named(wrong, said, kind, place, tmp_path):
    """A wrong argument is refused with its name when an archiver is made, and when a BOSS file is read."""
    given = {"save_template": "{{ n }}", "object_selector": "cam", "event_name": "data", **wrong}
    with pytest.raises(ConfigError, match=said):
        kind(**place, **given)
    path = tmp_path / "boss.json"
    path.write_text(json.dumps({"classname": f"herostools.actor.{kind.__name__}", "arguments": given}))
    with pytest.raises(ConfigError, match=said):
        Pipeline.read(path)


@pytest.mark.parametrize("wrong", ["{not json5", '{"unknown": 1}', '{"listen": {"endpoints": ["tcp/256.0.0.1:1"]}}'])
def test_a_wrong_configuration_of_heros_is_named(wrong, place, monkeypatch):
    """An archiver that cannot use HEROS_ZENOH_CONFIG names that variable."""
    monkeypatch.setenv("HEROS_ZENOH_CONFIG", wrong)
    with pytest.raises(RunError, match="HEROS_ZENOH_CONFIG"):
        ArrayArchiver("{{ n }}.npy", object_selector="cam", event_name="data")


def test_the_argument_after_max_retries_is_the_realm(place):
    """Further positional arguments go to the base, as in herostools: after max_retries, the realm."""
    with ArrayArchiver("{{ n }}.npy", False, "cam", "data", {}, 3, "lab", **place) as archiver:
        assert archiver._source.realm == "lab"
    with pytest.raises(TypeError, match="1 unexpected arguments"):
        ArrayArchiver("{{ n }}.npy", False, "cam", "data", {}, 3, "lab", "manager", **place)


@pytest.mark.parametrize(
    ("template", "name"),
    [("{{ n }}.txt", "5.txt"), ("{{ n }}.JSON", "5.JSON"), ("a.d/{{ n }}", "a.d/5.json"), ("x.json", "x.json")],
)
def test_a5_the_template_decides_the_suffix(template, name, tmp_path, place):
    """A file has the suffix that its template gives, as in herostools; a template without one gets ".json"."""
    with JsonArchiver(template, object_selector="cam", event_name="data", **place) as archiver:
        archiver.feed("cam", ({"a": 1}, {"n": 5}))
    assert files(tmp_path) == [name]
    boss = {"classname": "herostools.actor.JsonArchiver", "arguments": {"object_selector": "cam", "event_name": "data"}}
    boss["arguments"]["save_template"] = template
    path = tmp_path / "boss.json"
    path.write_text(json.dumps(boss))
    Pipeline.read(path).check()


def test_a4_split(tmp_path, place):
    """`split_data_array` gives one file per sub-array, numbered by `_split_index`."""
    with ArrayArchiver("{{ n }}-{{ _split_index }}.npy", True, "cam", "data", **place) as archiver:
        archiver.feed("cam", (numpy.arange(6).reshape(3, 2), {"n": 5}))
    assert archiver.report.ok, str(archiver.report)
    assert files(tmp_path) == ["5-0.npy", "5-1.npy", "5-2.npy"]
    assert numpy.load(tmp_path / "5-2.npy").tolist() == [4, 5]


def test_a4_what_the_network_says_never_chooses_the_root(tmp_path, place):
    """Metadata with a root, an absolute path or `..` write nothing outside; a missing key is dead-lettered, too."""
    archive = tmp_path / "in"
    template = "{{ file_path }}/{{ name }}.npy"
    with ArrayArchiver(template, False, "cam", "data", {"file_path": str(archive)}, 0, **place) as archiver:
        for said in (
            {"name": "good", "file_path": str(tmp_path / "out")},
            {"name": "../bad"},
            {"name": "/bad"},
            {"name": "a/../../bad"},
            {},
        ):
            archiver.feed("cam", (numpy.zeros(1), said))
    assert archiver.report.dead_lettered == 4
    assert [each for each in files(tmp_path) if each.endswith(".npy")] == ["in/good.npy"]


def test_a4_a_name_that_is_taken_is_refused_loudly(tmp_path, place):
    """A second acquisition of the same names overwrites nothing and is not ok; `number` keeps both."""
    with ArrayArchiver("{{ frame }}.npy", False, "cam", "data", None, 0, **place) as archiver:
        for value in (1, 2):
            archiver.feed("cam", (numpy.full(1, value), {"frame": 0}))
    assert numpy.load(tmp_path / "0.npy") == 1
    assert archiver.report.exit_code != 0
    with ArrayArchiver("{{ frame }}.npy", False, "cam", "data", when_exists="number", **place) as archiver:
        archiver.feed("cam", (numpy.full(1, 3), {"frame": 0}))
    assert archiver.report.ok
    assert numpy.load(tmp_path / "0-1.npy") == 3


@pytest.mark.parametrize("merge", [False, True])
def test_a5_json(merge, tmp_path, place):
    """One file per event; with `merge_metadata` the metadata of the event and the defaults are under "metadata"."""
    with JsonArchiver("{{ n }}.json", merge, "cam", "data", {"lab": "x"}, **place) as archiver:
        archiver.feed("cam", ({"volts": 3.1}, {"n": 1}))
    assert archiver.report.ok, str(archiver.report)
    expected = {"volts": 3.1} | ({"metadata": {"lab": "x", "n": 1}} if merge else {})
    assert json.loads((tmp_path / "1.json").read_text()) == expected
    assert files(tmp_path) == ["1.json"]


def test_a3_a_subclass_stores_by_itself(place):
    """`_store` of a subclass gets the HERO's name, the payload and merged metadata, in order, and is tried again."""
    calls, fail = [], {"times": 2}

    class Mine(HERODataArchiver):
        def _store(self, source_name, payload, metadata):
            if payload == 1 and fail["times"]:
                fail["times"] -= 1
                raise OSError("not yet")
            calls.append((source_name, payload, metadata["a"], metadata["n"]))

    archiver = Mine("cam", "data", {"a": 0, "n": -1}, **place)
    for number in range(3):
        archiver.feed("cam", (number, {"n": number}), 0)
    archiver._stop()
    assert archiver.report.ok
    assert calls == [("cam", number, 0, number) for number in range(3)]


def test_a3_what_cannot_be_stored_is_a_dead_letter(place):
    """After `max_retries` an event is dead-lettered, and later ones are stored."""
    tries = []

    class Mine(HERODataArchiver):
        def _store(self, source_name, payload, metadata):
            tries.append(payload)
            if payload == 0:
                raise OSError("never")

    archiver = Mine("cam", "data", max_retries=2, **place)
    for number in range(2):
        archiver.feed("cam", (number, {}))
    archiver._stop()
    assert tries == [0, 0, 0, 1]
    assert (archiver.report.stored, archiver.report.dead_lettered) == (1, 1)


def test_a3_the_base_alone_stores_nothing(place):
    """Without `_store` every event is dead-lettered with the name of what is missing."""
    archiver = HERODataArchiver("cam", "data", max_retries=0, **place)
    archiver.feed("cam", (1, {}))
    archiver._stop()
    assert "does not implement _store" in str(archiver.report)


def test_a3_a_subclass_of_a_file_archiver_calls_its_store(tmp_path, place):
    """A subclass may change what it stores and call `super()._store`, as with herostools."""

    class Doubled(ArrayArchiver):
        def _store(self, source_name, payload, metadata):
            super()._store(source_name, payload * 2, {**metadata, "name": "doubled"})

    with Doubled("{{ name }}-{{ source_name }}.npy", False, "cam", "data", **place) as archiver:
        archiver.feed("cam", (numpy.full(2, 4), {}))
    assert archiver.report.ok, str(archiver.report)
    assert numpy.load(tmp_path / "doubled-cam.npy").tolist() == [8, 8]


@pytest.mark.parametrize("odd", [3, None, "text", [1], (1, 2), (1, {}, {}), (1, {2: 3}), numpy.zeros(2)])
def test_a3_what_is_fed_in_another_shape_is_a_dead_letter(odd, place):
    """A value that is not (data, metadata) is dead-lettered alone: the archiver continues, and the counters add up."""
    stored = []

    class Mine(HERODataArchiver):
        def _store(self, source_name, payload, metadata):
            stored.append(payload)

    archiver = Mine("cam", "data", **place)
    archiver.feed("cam", odd)
    archiver.feed("cam", (1, {}))
    archiver._stop()
    assert stored == [1]
    assert (archiver.report.received, archiver.report.dead_lettered) == (2, 1)
    assert archiver.report.balanced


def test_a3_feeding_from_threads_loses_nothing(place):
    """Events fed by several threads, more than the queue holds, are stored before `_stop` returns."""
    stored = []

    class Mine(HERODataArchiver):
        def _store(self, source_name, payload, metadata):
            stored.append((source_name, payload))

    archiver = Mine("cam", "data", **place)

    def feed(name):
        for number in range(1500):
            archiver.feed(name, (number, {}))

    threads = [threading.Thread(target=feed, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    archiver._stop()
    for name in "ab":
        assert [number for source, number in stored if source == name] == list(range(1500))


def test_a4_without_the_plugin_that_writes_files(place, monkeypatch):
    """Without penstock-npy the error names the package to install, and nothing stays open."""
    monkeypatch.setenv("PENSTOCK_WITHOUT", "penstock-npy")
    with pytest.raises(ComponentLoadError, match="pip install penstock-npy"):
        ArrayArchiver("{{ n }}.npy", False, "cam", "data", **place)


BOSS = {
    "_id": "my-camera-capturer",
    "classname": "herostools.actor.ArrayArchiver",
    "arguments": {
        "object_selector": "my-camera",
        "event_name": "acquisition_data",
        "default_metadata": {"file_path": "images"},
        "save_template": SEED,
    },
}
OTHER = {
    "_id": "states",
    "classname": "herostools.actor.data_archiver.JsonArchiver",
    "arguments": {
        "object_selector": "**",
        "event_name": "state",
        "save_template": "states/{{ source_name }}-{{ '%03d' % seq }}",
        "merge_metadata": True,
    },
}


@pytest.mark.parametrize("content", [BOSS, [BOSS, OTHER], {"docs": [OTHER]}])
def test_a6_a_boss_file_is_a_pipeline(content, tmp_path):
    """The JSON of BOSS is read unchanged, with one entry or several, and can be written as a pipeline file."""
    path = tmp_path / "boss.json"
    path.write_text(json.dumps(content))
    pipeline = Pipeline.read(path)
    pipeline.check()
    assert Pipeline.from_toml(pipeline.to_toml()).names
    count = 1 if isinstance(content, dict) else 2
    assert [node.role for node in pipeline.nodes].count("store") == count


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classname": "herostools.actor.ZarrArchiver"}, "ZarrArchiver"),
        ({"arguments": {**BOSS["arguments"], "save_templat": "x"}}, "save_templat"),
        ({"arguments": {"object_selector": "x"}}, "save_template"),
        ({"arguments": [1]}, "arguments"),
    ],
)
def test_a6_a_boss_file_that_cannot_work_is_named(change, said, tmp_path):
    """A class that is not an archiver, or unknown arguments, are errors with the path in the file."""
    path = tmp_path / "boss.json"
    path.write_text(json.dumps([BOSS, {**BOSS, **change}]))
    with pytest.raises(ConfigError, match=rf"boss\.json: \$\[1\].*{said}"):
        Pipeline.read(path)


@pytest.mark.parametrize(
    "content", [3, "x", None, [], {}, [3], {"docs": 3}, {"classname": 1}, {"classname": "os.system"}]
)
def test_a6_what_is_no_boss_file_is_left_to_others(content):
    """Only files with classes of herostools' archivers are recognised as BOSS files."""
    assert not is_boss(content)


@pytest.mark.parametrize("package", ["herostools.actor", "herostools.actor.data_archiver"])
def test_a6_penstock_run(package, tmp_path, heros, endpoint):
    """`penstock run FILE.json` runs all archivers of a file on a real HERO, by HEROS_ZENOH_CONFIG, until SIGTERM."""
    camera = heros("camera", listen=[endpoint], name="my-camera")
    states = {**OTHER["arguments"], "event_name": "observable_data"}
    both = [
        {**BOSS, "classname": f"{package}.ArrayArchiver"},
        {**OTHER, "classname": f"{package}.JsonArchiver", "arguments": states},
    ]
    (tmp_path / "boss.json").write_text(json.dumps(both))
    config = {
        "mode": "peer",
        "listen": {"endpoints": []},
        "connect": {"endpoints": [endpoint]},
        "scouting": {"multicast": {"enabled": False}},
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock", "run", "boss.json"],
        cwd=tmp_path,
        env={
            **os.environ,
            "HEROS_ZENOH_CONFIG": json.dumps(config),
            "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        camera.do("wait", event="acquisition_data")
        camera.do("wait", event="observable_data")
        camera.do("run", frames=3)
        camera.do("observable_data", arguments=[[{"volts": 1.5}, {"on": True}]])
        while len(files(tmp_path)) < 5:
            assert process.poll() is None
        process.terminate()
        output = process.communicate(timeout=30)[0]
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, output
    images = [f"images/testimg-{name}.npy" for name in ("0000-0", "0000-1", "0001-0")]
    assert files(tmp_path) == ["boss.json", *images, "states/my-camera-000.json"]
    state = json.loads((tmp_path / "states" / "my-camera-000.json").read_text())
    assert state == {"volts": 1.5, "metadata": {"on": True}}
    assert "expected 3, emitted 3, arrived 3, stored 3: complete" in output


@pytest.mark.parametrize(
    ("kind", "template", "merge"),
    [
        ("ArrayArchiver", "{{ root }}/{{ '%03d' % frame }}.npy", {}),
        ("JsonArchiver", "{{ root }}/{{ '%03d' % frame }}.json", {"merge_metadata": True}),
    ],
)
def test_a2_the_real_archiver_and_ours_write_the_same_bytes(
    kind, template, merge, tmp_path, heros, endpoint, archiver_of
):
    """The real archiver and ours store events of a penstock `hero` store in files with the same names and bytes."""
    import penstock as ps
    from penstock_zenoh.hero.store import HeroStore

    common = {"save_template": template, "object_selector": "again", "event_name": "data", **merge}
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    arguments = {**common, "default_metadata": {"root": str(theirs), "lab": "µ"}}
    store = HeroStore(hero="again", event_name="data", listen=[endpoint])
    store.open()
    first = numpy.zeros(1) if kind == "ArrayArchiver" else {}
    numbers = iter(range(900, 1000))

    def subscribed(directory):
        """Emit until a file is there: events are lost until zenoh has announced a subscription."""
        deadline = time.monotonic() + 60
        while not (directory.exists() and files(directory)):
            assert time.monotonic() < deadline, directory
            store.write([ps.Record(first, metadata={"frame": next(numbers), "t": 0.0})])
            threading.Event().wait(0.5)

    real = heros("archive", connect=[endpoint], classname=kind, arguments=arguments)
    subscribed(theirs)
    archiver = archiver_of(kind, **common, default_metadata={"root": str(ours), "lab": "µ"}, connect=[endpoint])
    subscribed(ours)
    data = [
        numpy.arange(6).reshape(2, 3).astype(dtype)
        if kind == "ArrayArchiver"
        else {"volts": 1.5, "name": "é", "n": [1]}
        for dtype in ("uint16", ">i4", "float64", "complex64", "bool", "float16")
    ]
    store.write([ps.Record(one, metadata={"frame": number, "t": 1.25}) for number, one in enumerate(data)])
    names = [f"{number:03d}{Path(template).suffix}" for number in range(len(data))]
    deadline = time.monotonic() + 30
    while not (set(names) <= set(files(theirs)) and set(names) <= set(files(ours))):
        assert time.monotonic() < deadline, (files(theirs), files(ours))
    real.do("stop")
    archiver._stop()
    store.close()
    assert archiver.report.ok, str(archiver.report)
    for name in names:
        mine, other = (ours / name).read_bytes(), (theirs / name).read_bytes()
        assert mine.replace(str(ours).encode(), b"") == other.replace(str(theirs).encode(), b""), name


def test_names_of_files():
    """Defaults with directories are part of the root; a suffix that is missing is added."""
    assert path_template("{{ root }}/{{ n }}", {"root": "/data", "n": 1}, ".npy") == "/data/{{ n }}.npy"
    assert path_template("{{root}}{{ n }}.npy", {"root": "/data\\1/"}, ".npy") == "/data\\1/{{ n }}.npy"
    assert path_template("{{ rooted }}/x.npy", {"root": "/data"}, ".npy") == "{{ rooted }}/x.npy"
    with pytest.raises(ConfigError, match="without"):
        path_template("{{ root }}/x", {"root": "/{{ x }}"}, ".npy")
    assert NameTemplate("{{ a }}-{{ b }}").render({"a": 1}, b=2) == "1-2"
