"""
All mutants of the package's core, and a sample of them that a seed decides.

cosmic-ray knows the operators. Mutants of annotations, and of imports for type checkers, are left out: nothing of that
exists at run time.
"""

from __future__ import annotations

import ast
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from tests.mutation.equivalent import Change

# Decorators that do nothing at run time.
_FOR_CHECKERS = {"final", "overload", "override"}

ROOMS = ("_model", "_engine", "_coordination")


@dataclass(frozen=True)
class Mutant:
    """One change of one line, and the whole text of the module that has it."""

    change: Change
    number: int
    text: str
    #: The lines of the statement that is changed.
    lines: range

    @property
    def module(self) -> str:
        return "evertoken." + self.change.file.removesuffix(".py").replace("/", ".")

    def __str__(self) -> str:
        where = f"{self.change.file}:{self.number} {self.change.operator}"
        return f"{where}\n    - {self.change.line}\n    + {self.change.becomes}"


class _AtRunTime(ast.NodeTransformer):
    """Takes away what type checkers alone read."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._typeless(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._typeless(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._typeless(node)

    def _typeless(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        if not isinstance(node, ast.ClassDef):
            node.returns = None
        node.decorator_list = [one for one in node.decorator_list if ast.unparse(one) not in _FOR_CHECKERS]
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant("")
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        if "TYPE_CHECKING" in ast.unparse(node.test):
            return ast.Pass()
        return self.generic_visit(node)


def at_run_time(text: str) -> str:
    """Return the part of a module's *text* that matters when it runs, in a form to compare."""
    return ast.dump(_AtRunTime().visit(ast.parse(text)))


def sites(package: Path) -> list[list[tuple[Path, str, int, int]]]:
    """
    Return the places that an operator can change, each with all its mutants: file, operator, occurrence, line.

    A comparison can be replaced by seven others, and a number by two. One place counts once, so that a sample is not
    made of comparisons alone.
    """
    found: dict[tuple[Path, tuple[int, int], str], list[tuple[Path, str, int, int]]] = defaultdict(list)
    for room in ROOMS:
        for path in sorted((package / room).glob("*.py")):
            nodes = list(ast_nodes(get_ast(path.read_text(encoding="utf-8"))))
            for name in sorted(operator_names()):
                operator = get_operator(name)
                if operator.arguments():
                    continue
                occurrence = 0
                for node in nodes:
                    for start, _ in operator().mutation_positions(node):
                        found[path, start, name.partition("_")[0]].append((path, name, occurrence, start[0]))
                        occurrence += 1
    return list(found.values())


def sample(package: Path, seed: int) -> Iterator[Mutant]:
    """Yield one mutant of each place, in an order that *seed* decides."""
    places = sites(package)
    choice = random.Random(seed)
    choice.shuffle(places)
    for place in places:
        path, name, occurrence, number = choice.choice(place)
        before = path.read_text(encoding="utf-8")
        after = mutate_code(before, get_operator(name)(), occurrence)
        if after is None or _same(before, after):
            continue
        old, new = _difference(before, after)
        change = Change(path.relative_to(package).as_posix(), name, old, new)
        yield Mutant(change, number, after, _statement(before, number))


def _statement(text: str, number: int) -> range:
    """Return the lines of the innermost statement around line *number*; of a compound one, its head alone."""
    best = range(number, number + 1)
    length = float("inf")
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.stmt) or node.end_lineno is None:
            continue
        body = getattr(node, "body", None)
        last = body[0].lineno - 1 if body else node.end_lineno
        if node.lineno <= number <= last and last - node.lineno < length:
            best, length = range(node.lineno, last + 1), last - node.lineno
    return best


def _same(before: str, after: str) -> bool:
    try:
        return at_run_time(before) == at_run_time(after)
    except SyntaxError:
        # No program: it cannot run, and shows nothing.
        return True


def _difference(before: str, after: str) -> tuple[str, str]:
    """
    Return the line that differs, as it was and as it is; where one is missing, the line that follows stands for it.
    """
    old, new = ([line.strip() for line in text.splitlines() if line.strip()] for text in (before, after))
    return next(pair for pair in zip(old, new, strict=False) if pair[0] != pair[1])
