"""Modules stay short, and import each other in circles of two at most."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "core" / "src", *sorted((ROOT / "plugins").glob("*/src"))]
MOST_LINES = 400
MOST_IN_A_CIRCLE = 2


def _modules() -> dict[str, Path]:
    """Return the paths of all modules by name."""
    found = {}
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imports(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Yield the modules that one imports, anywhere in it, for types only included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            inner = [name for name in named if name in modules]
            yield from inner
            if len(inner) < len(named) and node.module in modules:
                yield node.module


def _reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        todo += graph[todo.pop()] - seen
        seen.update(todo)
    return seen


def test_no_module_is_longer_than_400_lines():
    """Each module of the core and of the plugins has at most 400 lines."""
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in _modules().items()}
    assert len(lines) > 400, "the sources were not found"
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_no_circle_of_imports_is_larger_than_two_modules():
    """At most two modules import each other in a circle, type-only and late imports counted."""
    modules = _modules()
    graph = {name: set(_imports(path, modules)) - {name} for name, path in modules.items()}
    assert "penstock.report.text" in graph["penstock.report.run_report"], "imports are not found"
    reached = {name: _reachable(name, graph) for name in graph}
    circles = {name: sorted(other for other in reached[name] if name in reached[other]) for name in graph}
    assert {name: circle for name, circle in circles.items() if len(circle) > MOST_IN_A_CIRCLE} == {}
