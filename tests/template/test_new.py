"""`penstock new`: which names it takes, what it writes, and that a store is made like penstock-npy."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from penstock.cli.new import FILES, NewPlugin
from penstock.component import ROLES
from penstock.errors import ConfigError

NPY = Path(__file__).parents[2] / "plugins" / "plugin-npy"


def penstock(*arguments, cwd):
    """Run the command as a user does."""
    command = [sys.executable, "-c", "from penstock.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("role", ROLES)
def test_a_package_is_made(tmp_path, role):
    """`penstock new ROLE acme` makes the directory penstock-acme with all its files, and says how to begin."""
    done = penstock("new", role, "acme", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pip install" in done.stdout
    made = {str(p.relative_to(tmp_path / "penstock-acme")) for p in tmp_path.rglob("*") if p.is_file()}
    assert made == {path.format(package="penstock_acme", role=role) for path in FILES}
    for path in tmp_path.rglob("*.py"):
        assert "<" + "<" not in path.read_text()
        compile(path.read_text(), str(path), "exec")


def test_a_place_can_be_given(tmp_path):
    """`--out DIR` makes the package below DIR, which is made if need be; "penstock-acme" and "acme" are the same."""
    assert penstock("new", "store", "penstock-acme", "--out", tmp_path / "a" / "b", cwd=tmp_path).returncode == 0
    assert (tmp_path / "a" / "b" / "penstock-acme" / "pyproject.toml").is_file()


@pytest.mark.parametrize("there", ["directory", "file", "dangling link"])
def test_nothing_is_overwritten(tmp_path, there):
    """Whatever is there under the name stays as it is, and the error names it."""
    path = tmp_path / "penstock-acme"
    if there == "directory":
        path.mkdir()
    elif there == "file":
        path.write_text("mine")
    else:
        path.symlink_to("nowhere")
    done = penstock("new", "store", "acme", cwd=tmp_path)
    assert done.returncode == 1
    assert "penstock-acme exists already" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [found.name for found in tmp_path.iterdir()] == ["penstock-acme"]
    assert path.is_symlink() or path.is_file() or not any(path.iterdir())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Acme", "lower-case letters"),
        ("", "lower-case letters"),
        ("acme_raw", "single dashes"),
        ("acme--raw", "single dashes"),
        ("../acme", "lower-case letters"),
        ("1st", "a letter first"),
        ("a" * 51, "at most 50"),
        ("acme\n", "lower-case letters"),
        ("npy", "one of penstock's own"),
        ("penstock-kafka-av", "one of penstock's own"),
        ("memory", "penstock itself offers a store"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(tmp_path, name, said):
    """A bad name is an error of one sentence with the name and the remedy, and nothing is made."""
    with pytest.raises(ConfigError, match=said) as caught:
        NewPlugin(role="store", name=name).write(tmp_path)
    assert repr(name.removeprefix("penstock-")) in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_a_role_that_there_is_not_is_refused(tmp_path):
    """`penstock new sink x` is wrong usage, and the four roles are named."""
    done = penstock("new", "sink", "acme", cwd=tmp_path)
    assert done.returncode == 2
    assert all(role in done.stderr for role in ROLES)


def test_a_half_made_package_is_removed(tmp_path, monkeypatch):
    """If a file cannot be written, nothing is left of the package."""
    written = []

    def fail(self, *_, **__):
        written.append(self)
        if len(written) == 3:
            raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="No space left"):
        NewPlugin(role="store", name="acme").write(tmp_path)
    assert not any(tmp_path.iterdir())


# A made store is made like penstock-npy, which has more of everything: neither can drift from the other.

MADE = NewPlugin(role="store", name="npy").render()


def test_pyproject_is_that_of_npy():
    """Every entry of a made store's pyproject.toml is in that of penstock-npy, except description and keywords."""
    made, npy = (tomllib.loads(text) for text in (MADE["pyproject.toml"], (NPY / "pyproject.toml").read_text()))
    for each in (made, npy):
        for key in ("description", "keywords"):
            assert each["project"].pop(key)
    assert set(made["project"].pop("dependencies")) <= set(npy["project"].pop("dependencies"))
    made["tool"].pop("pytest")  # that of the workspace is in its root
    assert is_part(made, npy)


def is_part(some, whole):
    """Return whether every entry of a mapping, at any depth, is in another with the same value."""
    if isinstance(some, dict) and isinstance(whole, dict):
        return all(key in whole and is_part(value, whole[key]) for key, value in some.items())
    return some == whole


def test_files_are_those_of_npy():
    """Each source file of a made store is one of penstock-npy, of the same name."""
    for path in MADE:
        if path.startswith("src/"):
            assert (NPY / path).is_file(), path
    assert (NPY / "README.md").is_file()
    assert (NPY / "tests" / "test_readme.py").is_file()


@pytest.mark.parametrize("name", ["hooks.py", "__init__.py"])
def test_modules_are_shaped_as_those_of_npy(name):
    """What `hooks.py` and `__init__.py` of a made store define and decorate, those of penstock-npy do alike."""
    path = f"src/penstock_npy/{name}"
    made, npy = shape(MADE[path]), shape((NPY / path).read_text())
    assert [part for part in made if part not in npy and not isinstance(part, str)] == []
    assert {part for part in made if isinstance(part, str) and not part.startswith(("from", "import"))} <= {
        part for part in npy if isinstance(part, str)
    }


def test_a_made_store_has_the_methods_of_npy():
    """A made store has methods of NpyStore, which has more, and the same name."""
    path = "src/penstock_npy/store.py"
    made, npy = public(MADE[path])["NpyStore"], public((NPY / path).read_text())["NpyStore"]
    assert made <= npy
    assert {"open", "write", "sync", "close", "get", "keys", "delete"} <= made


def shape(text):
    """Return the imports, functions with their decorators, and names assigned to, of a module."""
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(ast.unparse(node))
        elif isinstance(node, ast.FunctionDef):
            decorators = [ast.unparse(each) for each in node.decorator_list]
            found.append((node.name, decorators, ast.unparse(node.args), ast.unparse(node.returns)))
        elif isinstance(node, ast.Assign):
            found.append(ast.unparse(node.targets[0]))
        elif isinstance(node, ast.If):
            found.append(ast.unparse(node.test))
    return found


def public(text):
    """Return the public and the special methods of each class."""
    return {
        node.name: {
            each.name
            for each in node.body
            if isinstance(each, ast.FunctionDef) and (not each.name.startswith("_") or each.name.endswith("__"))
        }
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef)
    }
