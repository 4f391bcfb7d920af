"""Comprehensions over two variables (`map.all(k, v, v > 0)`), which the parser leaves as calls.

Source: cel-go ext/comprehensions.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from apiserver.cel.tree import Call, Const, Expr, Fold, Ident, ListOf, MapOf, Select

ACCUMULATOR = "@result"
INSERT = "cel.@mapInsert"
NAMES = frozenset({"all", "exists", "existsOne", "transformList", "transformMap", "transformMapEntry"})


def is_macro(expr: Expr) -> bool:
    return (
        isinstance(expr, Call)
        and expr.target is not None
        and expr.function in NAMES
        and len(expr.args) in ((3, 4) if expr.function.startswith("transform") else (3,))
        and isinstance(expr.args[0], Ident)
        and isinstance(expr.args[1], Ident)
    )


def any_macro(expr: Expr) -> bool:
    return is_macro(expr) or any(map(any_macro, children(expr)))


def children(expr: Expr) -> Iterator[Expr]:
    match expr:
        case Select():
            yield expr.operand
        case Call():
            if expr.target is not None:
                yield expr.target
            yield from expr.args
        case ListOf():
            yield from expr.items
        case MapOf():
            for key, value, _ in expr.entries:
                if isinstance(key, Expr):
                    yield key
                yield value
        case Fold():
            yield from (expr.range, expr.start, expr.condition, expr.step, expr.result)


def appended(expr: Call) -> Expr | None:
    """X of `result + [X]` in a comprehension."""
    match expr:
        case Call(_, "_+_", None, (Ident(_, name), ListOf(_, (item,), optional))) if name == ACCUMULATOR:
            return None if optional else item
    return None


def any_call(expr: Expr, names: frozenset[str]) -> bool:
    """Whether one of the functions is called."""
    return (isinstance(expr, Call) and expr.function in names) or any(any_call(e, names) for e in children(expr))


def replaced(expr: Expr, change: Callable[[Expr], Expr | None]) -> Expr:
    """A tree with those nodes changed of which `change` makes another."""
    if (found := change(expr)) is not None:
        return found

    def inner(part: Expr) -> Expr:
        return replaced(part, change)

    match expr:
        case Select():
            return replace(expr, operand=inner(expr.operand))
        case Call():
            target = None if expr.target is None else inner(expr.target)
            return replace(expr, target=target, args=tuple(map(inner, expr.args)))
        case ListOf():
            return replace(expr, items=tuple(map(inner, expr.items)))
        case MapOf():
            entries = [(inner(k) if isinstance(k, Expr) else k, inner(v), optional) for k, v, optional in expr.entries]
            return replace(expr, entries=tuple(entries))
        case Fold():
            start, condition, step, result = map(inner, (expr.start, expr.condition, expr.step, expr.result))
            return replace(expr, range=inner(expr.range), start=start, condition=condition, step=step, result=result)
    return expr


def expand(expr: Call) -> Fold | None:
    """The comprehension that a macro stands for; None where it is none."""
    if not is_macro(expr):
        return None
    assert expr.target is not None
    first, second, *rest = expr.args
    assert isinstance(first, Ident) and isinstance(second, Ident)
    here, true = Ident(0, ACCUMULATOR), Const(0, True)

    def fold(start: Expr, condition: Expr, step: Expr, result: Expr) -> Fold:
        assert expr.target is not None
        return Fold(expr.id, expr.target, first.name, ACCUMULATOR, start, condition, step, result, second.name)

    def call(function: str, *args: Expr) -> Call:
        return Call(0, function, None, args)

    body, when = rest[-1], rest[0] if len(rest) == 2 else None

    def step(taken: Expr) -> Expr:
        return taken if when is None else call("_?_:_", when, taken, here)

    match expr.function:
        case "all":
            return fold(true, call("@not_strictly_false", here), call("_&&_", here, body), here)
        case "exists":
            going = call("@not_strictly_false", call("!_", here))
            return fold(Const(0, False), going, call("_||_", here, body), here)
        case "existsOne":
            one = Const(0, 1)
            count = call("_?_:_", body, call("_+_", here, one), here)
            return fold(Const(0, 0), true, count, call("_==_", here, one))
        case "transformList":
            return fold(ListOf(0, ()), true, step(call("_+_", here, ListOf(0, (body,)))), here)
        case "transformMap":
            return fold(MapOf(0, ()), true, step(call(INSERT, here, Ident(0, first.name), body)), here)
    return fold(MapOf(0, ()), true, step(call(INSERT, here, body)), here)


_LIBRARIES = frozenset({"strings", "lists", "sets", "ip", "format"})


def qualified(expr: Call) -> str | None:
    """`sets.contains` of `sets.contains(a, b)`: a function of a library, not of a value."""
    target = expr.target
    if isinstance(target, Ident) and target.name in _LIBRARIES:
        return f"{target.name}.{expr.function}"
    return None
