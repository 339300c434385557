"""Files are written completely or not at all."""

from __future__ import annotations

import os

import pytest

from penstock.whole_files import write_whole


def test_a_file_is_made(tmp_path):
    """The file has the content, and nothing else is left; a missing directory is an error that names the file."""
    write_whole(tmp_path / "state.json", b"one")
    assert (tmp_path / "state.json").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["state.json"]
    with pytest.raises(FileNotFoundError, match=r"absent/state.json'$"):
        write_whole(tmp_path / "absent" / "state.json", b"one")


def test_an_existing_file_is_replaced_by_another(tmp_path):
    """A reader that has the old file open still reads the old content; the permissions are kept."""
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with path.open("rb") as old:
        write_whole(path, b"new")
        assert old.read() == b"old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640


def test_an_error_names_the_file(tmp_path):
    """An error names the file, not the temporary one, which is removed."""
    path = tmp_path / ("n" * 300)  # longer than any file system allows
    with pytest.raises(OSError, match="nnn'") as caught:
        write_whole(path, b"new")
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == []


def test_a_failed_rename_leaves_no_temporary_file(tmp_path):
    """A directory cannot be replaced by a file: it is unchanged, and nothing is left beside it."""
    (tmp_path / "state.json" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match=r"state\.json"):
        write_whole(tmp_path / "state.json", b"new")
    assert os.listdir(tmp_path) == ["state.json"]
    assert os.listdir(tmp_path / "state.json") == ["inside"]
