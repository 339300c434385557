"""Drawings of a pipeline: a mermaid flowchart, and an SVG picture laid out from left to right."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from penstock.compose.checks import neighbours
from penstock.compose.node import PLAIN, Edge, Node, label

if TYPE_CHECKING:
    from penstock.compose.graph import PipelineGraph

_SHAPES = {"source": ("([", "])"), "decoder": ("[/", "/]"), "processor": ("[", "]"), "store": ("[(", ")]")}
_COLOURS = {"source": "#d5e8f7", "decoder": "#fdebc8", "processor": "#e3f1d9", "store": "#ecdff2"}
_WIDTH, _HEIGHT, _ACROSS, _DOWN, _MARGIN = 150, 46, 230, 76, 16


def to_mermaid(pipeline: PipelineGraph) -> str:
    """Return the graph as a mermaid flowchart; each node shows its name, component and options."""
    ids = {node.name: f"n{index}" for index, node in enumerate(pipeline.nodes)}
    lines = ["flowchart LR"]
    for node in pipeline.nodes:
        left, right = _SHAPES[node.role]
        text = "<br/>".join(_mermaid(line) for line in _lines(node))
        lines.append(f'    {ids[node.name]}{left}"{text}"{right}')
    for first, second, edge in pipeline.edges:
        text = edge_text(edge)
        arrow = f'-- "{_mermaid(text)}" -->' if text else "-->"
        lines.append(f"    {ids[first]} {arrow} {ids[second]}")
    return "\n".join(lines) + "\n"


def to_svg(pipeline: PipelineGraph) -> str:
    """Return the graph as an SVG picture: a column for each step away from the sources."""
    places = _places(pipeline)
    columns = 1 + max((x for x, _ in places.values()), default=0)
    rows = 1 + max((y for _, y in places.values()), default=0)
    width = 2 * _MARGIN + (columns - 1) * _ACROSS + _WIDTH
    height = 2 * _MARGIN + (rows - 1) * _DOWN + _HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f"<title>{escape(pipeline.name)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#555"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for first, second, edge in pipeline.edges:
        x1, y1 = _corner(places[first])
        x2, y2 = _corner(places[second])
        x1, y1, y2 = x1 + _WIDTH, y1 + _HEIGHT // 2, y2 + _HEIGHT // 2
        bend = (x2 - x1) // 2
        parts.append(
            f'<path d="M{x1} {y1} C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}" fill="none" stroke="#555" '
            'marker-end="url(#tip)"/>'
        )
        if text := edge_text(edge):
            parts.append(
                f'<text x="{(x1 + x2) // 2}" y="{(y1 + y2) // 2 - 5}" text-anchor="middle" font-size="10" '
                f'fill="#a33">{escape(text)}</text>'
            )
    for node in pipeline.nodes:
        x, y = _corner(places[node.name or ""])
        parts.append(
            f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="{_COLOURS[node.role]}" '
            'stroke="#555"/>'
        )
        for index, line in enumerate(_lines(node)):
            weight = "" if index else ' font-weight="bold"'
            parts.append(
                f'<text x="{x + _WIDTH // 2}" y="{y + 18 + 16 * index}" text-anchor="middle"{weight}>'
                f"{escape(_short(line))}</text>"
            )
    return "\n".join([*parts, "</svg>", ""])


def edge_text(edge: Edge) -> str:
    """Return the label of an edge: "" for a default one."""
    if edge == PLAIN:
        return ""
    limits = [f"{edge.capacity} records"] if edge.capacity else []
    limits += [f"{edge.capacity_bytes / 2**20:g} MiB"] if edge.capacity_bytes else []
    return ", ".join([*limits, *([str(edge.when_full)] if edge.when_full != PLAIN.when_full else [])])


def _lines(node: Node) -> list[str]:
    options = [f"{node.workers} workers"] if node.workers > 1 else []
    options += [node.place] if node.place != "thread" else []
    name, component = node.name or "", label(node)
    what = node.role if name == component else f"{node.role} {component}"
    return [name, " ".join([what, *options])]


def _mermaid(text: str) -> str:
    """Return text escaped for a quoted mermaid label."""
    return "".join(f"#{ord(letter)};" if letter in '"#<>&' else letter for letter in text)


def _short(text: str) -> str:
    return text if len(text) <= 22 else text[:21] + "…"


def _places(pipeline: PipelineGraph) -> dict[str, tuple[int, int]]:
    """Return the column and row of each node; the column is the length of its longest path from a source."""
    _, before = neighbours(pipeline.edges)
    columns: dict[str, int] = {}
    for _ in pipeline.nodes:
        for node in pipeline.nodes:
            name = node.name or ""
            columns[name] = 1 + max((columns.get(first, 0) for first in before[name]), default=-1)
    used: dict[int, int] = {}
    places = {}
    for node in pipeline.nodes:
        column = columns[node.name or ""]
        places[node.name or ""] = (column, used.get(column, 0))
        used[column] = used.get(column, 0) + 1
    return places


def _corner(place: tuple[int, int]) -> tuple[int, int]:
    return _MARGIN + place[0] * _ACROSS, _MARGIN + place[1] * _DOWN
