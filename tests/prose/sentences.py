"""Finds the sentences of pages, docstrings, comments and messages, each with its line."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from typing import NamedTuple


class Sentence(NamedTuple):
    """
    A sentence, or a part of one up to a colon or a semicolon.

    Args:
        line: The line that it begins in, from 1.

        text: The sentence without markup, on one line.
    """

    line: int
    text: str


#: A shorter one is a heading, a name or a unit.
SHORTEST = 3

# The parts of a page that are not prose: code, comments, tables, headings, fences and options of directives.
_NO_PROSE = re.compile(
    r"^(?P<indent>[ ]*)(?P<fence>```+)[^\n]*\n.*?^(?P=indent)(?P=fence)[ ]*$"
    r"|<!--.*?-->|^[ ]*\|[^\n]*$|^\#+[ ][^\n]*$|^[ ]*:::+[^\n]*$|^[ ]*:[\w-]+:[^\n]*$",
    re.DOTALL | re.MULTILINE,
)
# A blank line, or the start of an item.
_BREAK = re.compile(r"\n[ ]*(?=\n)|\n(?=[ ]*(?:[-*:]|\d+\.)[ ])")
_END = re.compile(r"(?<=[.!?:;])\s+")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_CODE = re.compile(r"(?<!`)`{1,2}([^`]+)`{1,2}(?!`)")
_MARKUP = re.compile(r"[*\"\u201c\u201d#]|(?<!\w)['_]|['_](?!\w)")
_ITEM = re.compile(r"^\s*(?:[-*:]|\d+\.)\s")
# Comments that tools read.
_FOR_TOOLS = re.compile(r"^\s*(?:noqa|type: ignore|pragma|pyright|mypy|fmt|ruff|isort|codespell|///|!)")

# Strings of code that somebody reads: words in small letters, most of them, and no statement of a database or a script.
_WORD = re.compile(r"^[\"'(]?[A-Za-z][a-z'-]*[\"')]?[.,:;!?]?$|^[aI]$|^%[rsd][.,:;]?$|^\{\}[.,:;]?$")
_SHARE_OF_WORDS = 0.75


def of_page(text: str) -> Iterator[Sentence]:
    """Yield the sentences of a page in Markdown."""
    # All lines stay, so that each keeps its number.
    return of_text(_NO_PROSE.sub(lambda found: re.sub(r"[^\n]+", "", found[0]), text))


def of_text(text: str, first_line: int = 1) -> Iterator[Sentence]:
    """Yield the sentences of *text*, which begins in *first_line*."""
    start = 0
    for end in [*(found.start() for found in _BREAK.finditer(text)), len(text)]:
        paragraph = _ITEM.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text[start:end])
        begin = 0
        for stop in [*(found.end() for found in _END.finditer(paragraph)), len(paragraph)]:
            raw = paragraph[begin:stop]
            found = _plain(raw)
            if len(found.split()) >= SHORTEST:
                blank = len(raw) - len(raw.lstrip())
                yield Sentence(first_line + text.count("\n", 0, start + begin + blank), found)
            begin = stop
        start = end


def of_docstrings(source: str) -> Iterator[Sentence]:
    """Yield the sentences of all docstrings of a module."""
    for node in _docstrings(ast.parse(source)):
        text = str(node.value)
        # A line of code in a docstring stands behind a prompt.
        text = re.sub(r"^\s*(?:>>>|\.\.\.) [^\n]*", "", text, flags=re.MULTILINE)
        yield from of_text(_NO_PROSE.sub(lambda found: re.sub(r"[^\n]+", "", found[0]), text), node.lineno)


def of_comments(source: str) -> Iterator[Sentence]:
    """Yield the sentences of all comments of a module. Comments in lines that follow each other are one text."""
    lines: list[str] = []
    first = last = column = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        text = token.string.lstrip("#: ")
        row, start = token.start
        alone = not token.line[:start].strip()
        if _FOR_TOOLS.match(text):
            text = text.partition(" - ")[2]
        if lines and alone and row == last + 1 and start == column:
            lines.append(text)
        else:
            yield from of_text("\n".join(lines), first)
            lines, first, column = [text], row, start if alone else -1
        last = row
    yield from of_text("\n".join(lines), first)


def of_messages(source: str) -> Iterator[Sentence]:
    """Yield the sentences of the strings of a module that people read: errors, lines of the log, and help."""
    tree = ast.parse(source)
    skipped = {id(node) for node in _docstrings(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped.update(id(part) for part in node.values)
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            text = node.value
        else:
            continue
        words = text.split()
        if "\n" not in text and sum(bool(_WORD.match(word)) for word in words) >= _SHARE_OF_WORDS * len(words):
            # A string may span lines of code, and does not know which; its first line leads there.
            yield from (Sentence(node.lineno, found.text) for found in of_text(text))


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first.value


def _plain(text: str) -> str:
    """Take the markup out of *text*, except the backticks around code."""
    parts = _CODE.split(_LINK.sub(r"\1", text))
    parts[::2] = (_MARKUP.sub("", part) for part in parts[::2])
    parts[1::2] = (f"`{code}`" for code in parts[1::2])
    return " ".join("".join(parts).split())
