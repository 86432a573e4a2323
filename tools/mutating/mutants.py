"""The small changes that tests should notice."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
_NOT_RUN = {"annotation", "returns", "decorator_list"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: on which line, what stood there, what does now, the new module."""

    line: int
    before: str
    after: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines.

    Comparisons, sums and conditions become their neighbours, numbers one more, truths
    lies; what is returned becomes None, and what is raised isn't.
    """
    lines = source.encode().splitlines(keepends=True)
    starts = list(accumulate(map(len, lines), initial=0))
    found: list[Mutant] = []
    for node in _run(ast.parse(source)):
        start = starts[node.lineno - 1] + node.col_offset
        stop = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        text, before = source.encode(), ast.unparse(node)
        for after in _changes(node):
            changed = text[:start] + after.encode() + text[stop:]
            found.append(Mutant(node.lineno, before, after, changed.decode()))
    return sorted(found, key=lambda mutant: mutant.line)


def _run(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Yield what is run: no annotations, no decorators."""
    for name, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        for child in children if name not in _NOT_RUN else ():
            if isinstance(child, ast.expr | ast.stmt):
                yield child
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                yield from _run(child)


def _changes(node: ast.AST) -> Iterator[str]:
    """Yield what might stand in a node's place."""
    if isinstance(node, ast.Compare):
        for at, op in enumerate(node.ops):
            node.ops[at] = _swapped(op)
            yield f"({ast.unparse(node)})"
            node.ops[at] = op
    elif isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in _SWAPS:
        whole: Any = node
        op, whole.op = whole.op, _swapped(whole.op)
        yield f"({ast.unparse(whole)})"
        whole.op = op
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        truth = isinstance(node.value, bool)
        yield f"{not node.value}" if truth else f"({node.value + 1})"
    elif isinstance(node, ast.Return) and node.value is not None:
        if not isinstance(node.value, ast.Constant):
            yield "return None"
    elif isinstance(node, ast.Raise):
        yield "pass"


def _swapped(op: ast.AST) -> Any:
    return _SWAPS[type(op)]()
