"""As much of PromQL as the alert rules use, over samples that a test has scraped. The syntax is read by a library."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import promql_parser as promql
from prometheus_client import CollectorRegistry

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]

_OPERATORS: dict[str, Callable[[float, float], Any]] = {
    ">": operator.gt,
    "==": operator.eq,
    "<": operator.lt,
    "*": operator.mul,
    "/": operator.truediv,
}
_COMPARISONS = {">", "==", "<"}


@dataclass
class Scrapes:
    """A substitute for a server of Prometheus: all samples of a registry at some instants."""

    registry: CollectorRegistry
    taken: list[tuple[float, dict[str, Vector]]] = field(default_factory=list)

    def scrape(self, now: float) -> None:
        """Read all samples."""
        found: dict[str, Vector] = {}
        for family in self.registry.collect():
            for sample in family.samples:
                found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        self.taken.append((now, found))

    def value(self, expression: Any) -> float | Vector:
        """Return what *expression* gives at the last scrape."""
        match expression:
            case str():
                return self.value(promql.parse(expression))
            case promql.NumberLiteral():
                return float(expression.val)
            case promql.ParenExpr():
                return self.value(expression.expr)
            case promql.VectorSelector():
                return self._selected(expression, self.taken[-1][1])
            case promql.Call() if expression.func.name == "increase":
                return self._increase(expression.args[0])
            case promql.AggregateExpr():
                return self._sum(expression)
            case promql.BinaryExpr():
                return _binary(str(expression.op), self.value(expression.lhs), self.value(expression.rhs))
        msg = f"the rules use what this does not know: {type(expression).__name__}"
        raise NotImplementedError(msg)

    def _selected(self, selector: Any, samples: dict[str, Vector]) -> Vector:
        wanted = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
        return {
            labels: value
            for labels, value in samples.get(selector.name, {}).items()
            if all(dict(labels).get(name) == text for name, text in wanted.items())
        }

    def _increase(self, matrix: Any) -> Vector:
        end = self.taken[-1][0]
        begin = end - matrix.range.total_seconds()
        inside = [self._selected(matrix.vector_selector, samples) for at, samples in self.taken if at >= begin]
        first, last = inside[0], inside[-1]
        # As in Prometheus, a series that begins within the range counts from its first sample.
        return {labels: value - first.get(labels, value) for labels, value in last.items()}

    def _sum(self, aggregate: Any) -> Vector:
        if str(aggregate.op) != "sum":
            msg = f"the rules use what this does not know: {aggregate.op}"
            raise NotImplementedError(msg)
        by = set() if aggregate.modifier is None else set(aggregate.modifier.labels)
        found: Vector = {}
        inner = self.value(aggregate.expr)
        assert isinstance(inner, dict)
        for labels, value in inner.items():
            kept = frozenset(pair for pair in labels if pair[0] in by)
            found[kept] = found.get(kept, 0.0) + value
        return found


def _binary(op: str, left: float | Vector, right: float | Vector) -> float | Vector:
    do = _OPERATORS[op]
    if not isinstance(left, dict) and not isinstance(right, dict):
        return float(do(left, right))
    if not isinstance(left, dict):
        assert isinstance(right, dict)
        return {labels: float(do(left, value)) for labels, value in right.items()}
    pairs = {labels: (value, right.get(labels) if isinstance(right, dict) else right) for labels, value in left.items()}
    known = {labels: (one, other) for labels, (one, other) in pairs.items() if other is not None}
    if op in _COMPARISONS:
        return {labels: one for labels, (one, other) in known.items() if do(one, other)}
    return {labels: float(do(one, other)) for labels, (one, other) in known.items()}


def names_in(expression: str) -> set[str]:
    """Return the names of the metrics in *expression*."""
    found: set[str] = set()
    left = [promql.parse(expression)]
    while left:
        one = left.pop()
        match one:
            case promql.VectorSelector():
                found.add(str(one.name))
            case promql.MatrixSelector():
                left.append(one.vector_selector)
            case promql.Call():
                left.extend(one.args)
            case promql.AggregateExpr():
                left.append(one.expr)
            case promql.BinaryExpr():
                left += [one.lhs, one.rhs]
            case promql.ParenExpr():
                left.append(one.expr)
            case promql.NumberLiteral() | promql.StringLiteral():
                pass
            case _:
                msg = f"an expression of a kind that this does not know: {type(one).__name__}"
                raise NotImplementedError(msg)
    return found
