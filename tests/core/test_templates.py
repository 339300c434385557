"""Templates render names from records, and no field of a record leads out of the root."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.coords import DataCoordinates
from penstock.errors import TemplateError
from penstock.record import Record
from penstock.templates import Template
from penstock.templates.fence import check_text


def record(**metadata):
    return Record(
        None,
        channel="left",
        seq=7,
        time_ns=1_700_000_000_123_456_789,
        coords=DataCoordinates(z=2),
        metadata=metadata,
    )


@pytest.mark.parametrize(
    ("text", "root", "path"),
    [
        ("archive/{{ channel }}/{{ '%06d' % seq }}.npy", "archive", "archive/left/000007.npy"),
        ("/data/img_{{ seq }}.npy", "/data", "/data/img_7.npy"),
        ("{{ channel }}/x.npy", ".", "left/x.npy"),
        ("/{{ channel }}", "/", "/left"),
        ("a/b/frame.npy", "a/b", "a/b/frame.npy"),
        ("../a/{{ seq }}", "../a", "../a/7"),
        ('{{ "%03d"|format(seq) }}_z{{ coords.z }}', ".", "007_z2"),
        ("{{ time|strftime('%Y%m%d') }}_{{ time_ns|strftime('%H') }}", ".", "20231114_22"),
        ("{{ 'Caméra 1/links'|slug }}", ".", "camera-1-links"),
        ("{{ camera }}/{{ metadata.camera }}", ".", "c1/c1"),
        ("{{ source_name }}{{ nothing|default('-') }}", ".", "left-"),
        ("{{ text }}", ".", "{{ seq }}"),
    ],
)
def test_paths(text, root, path):
    """The directories that need no record are the root, and the rest is rendered once."""
    template = Template(text)
    made = record(camera="c1", text="{{ seq }}")
    assert (template.root, template.path(made)) == (Path(root), Path(path))
    if not text.startswith("/"):
        assert template.render(made) == path


def test_variables_tell_a_constant():
    """A template without variables is recognised by its empty set of them."""
    assert Template("frame.npy").variables == frozenset()
    assert Template("{{ a.b }}/{{ '%d' % seq }}").variables == {"a", "seq"}


@pytest.mark.parametrize(
    "value",
    [
        "../b",
        "..",
        ".",
        "",
        "/etc/passwd",
        "a//b",
        "a/",
        "a/../../b",
        "a\0b",
        "a\nb",
        "a\x1bb",
        "x" * 300,
        "é" * 128,
        "a/" * 3000 + "b",
        "\ud800",
        "a\u2028b",
    ],
)
@pytest.mark.parametrize("text", ["root/{{ name }}", "{{ name }}", "root/{{ name|string }}"])
def test_what_a_record_says_stays_in_the_root(text, value):
    """A value that would leave the root, or is not a valid file name, is rejected with the template in the message."""
    with pytest.raises(TemplateError, match=r"^template '"):
        Template(text).path(record(name=value))


@given(st.text(max_size=30) | st.sampled_from(["..", "/", "../..", "a/..", "\\..\\"]), st.text(max_size=5))
def test_no_value_leads_out(name, other):
    """For any two values, the path lies below the root or is an error."""
    try:
        path = Template("top/{{ name }}/{{ other }}x", root=Path("/base")).path(record(name=name, other=other))
    except TemplateError:
        return
    assert os.path.normpath(path) == str(path)
    assert str(path).startswith("/base/top/")


def test_symlinks(tmp_path):
    """A symlink that leads out of the root is rejected, in the middle or at the end; one that stays in it is not."""
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (root / "out").symlink_to(tmp_path)
    (root / "in").symlink_to(root / "real")
    (root / "real" / "file").symlink_to("/etc/passwd")
    template = Template("{{ name }}", root=root)
    assert template.path(record(name="in/x")) == root / "in" / "x"
    assert template.path_text(record(name="in/x")) == os.fspath(root / "in" / "x")
    with pytest.raises(TemplateError, match="symlink"):
        template.path_text(record(name="out/x"), is_new=True)
    for name in ("out/x", "out", "real/file", "in/file"):
        for path in (template.path, template.path_text):
            with pytest.raises(TemplateError, match="symlink"):
                path(record(name=name))


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ metadata.__init__.__globals__ }}",
        "{% include 'x' %}",
        "{{ metadata.update({'a': 1}) }}",
        "{{ '%d' % channel }}",
        "{{ '%d%d' % seq }}",
        "{{ coords.q }}",
        "{{ 1/0 }}",
    ],
)
def test_what_is_forbidden_or_fails_is_an_error(text):
    """The sandbox holds, and any error while rendering names the template and the record."""
    with pytest.raises(TemplateError, match=r"^template .*record 7 of channel 'left'"):
        Template(text).render(record())


@pytest.mark.parametrize("text", ["{{ x ", "{% if %}", "{{ x|nope }}", "", None, 5, "a/{{ x }}/../b", "{{ 10**5000 }}"])
def test_wrong_templates_are_found_when_made(text):
    """A text that is not a template, or could only leave the root, is rejected before the first record."""
    with pytest.raises(TemplateError):
        Template(text)
    with pytest.raises(TemplateError, match="remove one"):
        Template("/a/{{ seq }}", root=Path("/b"))


def test_missing_names_say_what_there_is():
    """A name that the record lacks is reported with those it has and a close one."""
    with pytest.raises(TemplateError, match=r"has no 'camra'; it has camera, channel, .*; did you mean camera\?"):
        Template("{{ camra }}").render(record(camera=1))


def test_defaults_fill_in_but_hold_the_root():
    """A default applies if the metadata lacks the name; one that contains a directory cannot be replaced."""
    template = Template("{{ root }}/{{ camera }}", defaults={"root": "/data", "camera": "none"})
    assert template.root == Path("/data")
    assert template.path(record()) == Path("/data/none")
    assert template.path(record(camera="c1", root="/etc")) == Path("/data/c1")
    assert template.render(record(root="/etc")) == "/data/none"


def test_metadata_does_not_hide_the_record():
    """A key of the metadata named like a field of the record does not replace it; source_name may be given."""
    made = record(seq="../x", channel="y", source_name="hero")
    assert Template("{{ channel }}{{ seq }}{{ source_name }}{{ metadata.seq }}").render(made) == "left7hero../x"


def test_keys_are_plain_text():
    """A key or topic has no root, but must not be empty nor contain control characters."""
    assert Template("{{ a }}").render(record(a="x/../y")) == "x/../y"
    for value in ("", "a\0", "a\n"):
        with pytest.raises(TemplateError):
            Template("{{ a }}").render(record(a=value))


@given(
    st.sampled_from(
        ["{{ channel }}/{{ '%012d' % seq }}", "{{ seq }}", "100%/{{ '%d%%' % seq }}-{{ time_ns }}", "{{ channel }}"]
    ),
    st.text(max_size=5), st.integers(), st.integers(),
)  # fmt: skip
def test_the_quick_way_gives_the_same(text, channel, seq, time_ns):
    """A template with only a record's own fields is rendered without jinja, to the same name or error."""
    record = Record(None, channel=channel, seq=seq, time_ns=time_ns)
    template = Template(text)
    try:
        expected = template._fill(template._whole, record)
        check_text(expected, text)
    except TemplateError as error:
        with pytest.raises(TemplateError, match=re.escape(str(error))):
            template.render(record)
    else:
        assert template.render(record) == expected
        assert not expected.isprintable() or template._quick(record) == expected


@given(
    st.sampled_from(["{{ '%06d' % frame }}.npy", "{{ gain }}/{{ seq }}", "{{ '%s' % frame }}-{{ gain }}{{ channel }}"]),
    st.one_of(st.integers(), st.floats(), st.booleans(), st.text(max_size=5), st.tuples(st.integers()), st.none()),
    st.one_of(st.integers(), st.text(max_size=5), st.dictionaries(st.text(max_size=2), st.integers(), max_size=1)),
)  # fmt: skip
def test_metadata_fill_a_name_quickly_to_the_same(text, frame, gain):
    """A template with keys of the metadata is rendered without jinja if their values are plain, to the same name."""
    given = Record(None, channel="left", seq=7, metadata={"frame": frame, "gain": gain})
    template = Template(text)
    quick = template._quick(given)
    try:
        expected = template._fill(template._whole, given)
    except TemplateError:
        assert quick == ""
    else:
        assert quick in ("", expected)
        assert quick or not expected or not {type(frame), type(gain)} <= {int, str, float, bool}


def test_a_default_that_holds_the_root_is_not_filled_from_metadata():
    """Metadata that name a trusted directory do not replace it on the quick way either."""
    template = Template("{{ top }}/{{ seq }}", defaults={"top": "/data"})
    assert template.path_text(Record(None, seq=1, metadata={"top": "evil"})) == "/data/1"
    assert template.render(Record(None, seq=1, metadata={"top": "evil"})) == "/data/1"


@given(st.text(alphabet="ab./ -~é\x00\n\\", max_size=8), st.sampled_from(["/base", "base", ".", "/"]))
def test_a_path_as_text_is_the_path(value, root):
    """`path_text` returns the same path as `path`, or raises the same error."""
    template = Template("{{ name }}.x", root=Path(root))
    try:
        expected = os.fspath(template.path(record(name=value)))
    except TemplateError as error:
        with pytest.raises(TemplateError, match=re.escape(str(error))):
            template.path_text(record(name=value))
    else:
        assert template.path_text(record(name=value)) == expected


@pytest.mark.parametrize(
    "text", ["{{ time }}/{{ seq }}", "{{ '%d-%d' % seq }}", "{{ '%*d' % seq }}{{ seq }}", "{{ 'x' % seq }}"]
)
def test_no_quick_way_for_other_templates(text):
    """A gap with a computed value, or with more or less than one number, is left to jinja."""
    assert Template(text)._quick(Record(None, metadata={"time": 2})) == ""


def test_importing_is_light():
    """Importing the module imports no jinja2."""
    code = "import sys, penstock.templates; assert 'jinja2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a/{seq:04d}.npy", "{{ '%04d' % seq }}"),
        ("{{ channel }}/{seq}.npy", "{{ seq }}"),
        ("{{ seq:06d }}", "{{ '%06d' % seq }}"),
        ("{camera}/x", "{{ camera }}"),
        ("{coords[row]}/{{ seq }}", "{{ coords['row'] }}"),
        ("{{ channel }}/{gain:.2f}", "{{ '{:.2f}'.format(gain) }}"),
        ("{time:%Y-%m-%d}/{{ seq }}", "{{ time|strftime('%Y-%m-%d') }}"),
    ],
)
def test_a_gap_of_str_format_gets_the_sentence_that_helps(text, meant):
    """`{seq:04d}`, which would render nothing, is an error that has the form of jinja2; and that works."""
    with pytest.raises(TemplateError) as caught:
        Template(text)
    assert str(caught.value).endswith(f"write {meant}")
    record = Record(1, seq=7, channel="c", metadata={"camera": "left", "gain": 0.5}, coords={"row": 1})
    assert Template(meant).render(record)


def test_braces_that_are_meant_are_left():
    """A name in braces beside gaps of jinja2 is unchanged, unless it is a record's."""
    assert Template("{x}/{{ seq }}").render(Record(1, seq=7)) == "{x}/7"
