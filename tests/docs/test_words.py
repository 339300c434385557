"""Sources, docs and messages use the project's words, and none of the phrases that readers stumble over."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ITSELF = Path(__file__).relative_to(ROOT)
GLOSSARY = (ROOT / "docs" / "explanation" / "words.md").read_text(encoding="utf-8")

BANNED = (
    r"\brous(e|ed|es|er|ing)\b",
    r"\b(is|are) said\b",
    r"\b(be|is) (told|it)\b(?= (a|an|the|by|of|that|empty|whole)\b)",
    r"\bgo(es)? the (same )?way\b",
    r"\blet(s|ting)? go of\b",
    r"\bleave(s)? away\b",
    r"\bat one blow\b",
    r"\bas it is told\b",
    r"\bwhat is there\b",
    r"\bha(s|ve) to do with\b",
    r"\bstands? for\b",
    r"\bmourn",
    r"\bknock",
    r"\bwhoever\b",
    r"\bthe books\b",
    r"\bbooks balance\b",
    r"\bhas not the\b",
    r"\blooks? whether\b",
    r"\bsays otherwise\b",
    r"\bmakes? nothing of\b",
    r"\bin (its|the|their|our) hands\b",
    r"\bfor want of\b",
    r"\bat work still\b",
    r"\bwhat (comes|becomes) of\b",
    r"\bthan told\b",
    r"\bbut for\b",
    r"\banew\b",
    r"\blately\b",
    r"\b(that|which) (is|are) (?-i:none)\b",
    r"\b(is|are|was|were|been|and) made again\b",
    r"\bas ever\b",
    r"\bcut anywhere\b",
    r"\bpainted over\b",
    r"\bin (its|the) stead\b",
    r"\bput it behind\b",
    r"\b(have|has) (its|their) say\b",
    r"\b(does|do) not go with\b",
    r"(?<!there )\b(is|are|was|were|been|being) no (?!longer\b|(more|fewer|less) than\b)\w",
)
"""Phrases that are not found in any comment, docstring, message or page."""

IN_MESSAGES = (
    *BANNED,
    r"^what (is|was|it|asks|stands)\b",
    r"\btakes? note of\b",
    r"\b(nobody|somebody)\b",
    r"\bis meant\b",
    r"\btold\b(?! apart)",
    r"\bgo(es)? on\b",
)
"""Phrases that are not found in the text of any error, warning or line of a log."""

SPOKEN = {"debug", "info", "warning", "warn", "error", "exception", "critical", "echo", "secho", "fail", "skip"}


def _files(*suffixes: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout.decode()
    paths = [Path(name) for name in listed.split("\0") if name]
    if not paths:
        paths = [path.relative_to(ROOT) for folder in _FOLDERS for path in (ROOT / folder).rglob("*")]
    return [path for path in paths if path.suffix in suffixes and path != ITSELF and (ROOT / path).is_file()]


_FOLDERS = ("benchmarks", "core", "docs", "plugins", "tests")
_TEXTS = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def _prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line numbers and texts: the comments and strings of a module, or the lines of a page."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _TEXTS:
            yield token.start[0], " ".join(token.string.split())


def _messages(source: str) -> Iterator[tuple[int, str]]:
    """Yield line numbers and texts of what a module raises, warns, logs or prints."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and node.exc is not None:
            spoken: ast.AST = node.exc
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SPOKEN:
            spoken = node
        else:
            continue
        for part in ast.walk(spoken):
            if isinstance(part, ast.JoinedStr):
                yield part.lineno, "".join(v.value if isinstance(v, ast.Constant) else "…" for v in part.values)
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.lineno, part.value


def _found(banned: tuple[str, ...], texts: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    pattern = re.compile("|".join(banned), re.IGNORECASE)
    return [(line, text) for line, text in texts if pattern.search(text)]


def test_no_page_or_comment_has_a_banned_phrase():
    """No comment, string or page of the repository contains a banned phrase."""
    found = {
        f"{path}:{line}: {text.strip():.160}"
        for path in _files(".py", ".md", ".toml", ".jinja")
        for line, text in _found(BANNED, _prose(path))
    }
    assert not found, "\n".join(sorted(found))


def test_no_message_has_a_banned_phrase():
    """No error, warning, log line or output of the sources contains a banned phrase."""
    found = {
        f"{path}:{line}: {text:.160}"
        for path in _files(".py")
        if "src" in path.parts
        for line, text in _found(IN_MESSAGES, _messages((ROOT / path).read_text(encoding="utf-8")))
    }
    assert not found, "\n".join(sorted(found))


@pytest.mark.parametrize(
    "source",
    [
        "raise ValueError('whoever opens it')",
        "raise ValueError(f'{x}: let go of {y}') from error",
        "_log.warning('it is ' 'said %s', x)",
        "raise ValueError('a: ' + (f'what is {x}' if x else ''))",
        "click.echo(f'{x} is said')",
        "raise ConfigError(f'{x!r} is no pipeline file')",
    ],
)
def test_messages_are_found_in_every_form(source: str):
    """Banned phrases are found in plain, formatted, joined and conditional messages."""
    assert _found(IN_MESSAGES, _messages(source))


@pytest.mark.parametrize("word", ["record", "lane", "cut", "dead letter", "records_in", "records_out", "buffered"])
def test_the_glossary_explains_the_words_of_the_design(word: str):
    """Each word of the design has a row in the glossary, with a meaning."""
    assert re.search(rf"^\| {word} \| \S.{{20,}} \|$", GLOSSARY, re.MULTILINE)
