"""Programs: a tree turned into closures, which count what they cost and stop when it is too much.

Source: https://github.com/google/cel-spec doc/langdef.md, "Evaluation"; cel-go interpreter/runtimecost.go (costs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

from apiserver.cel import macros, operators, tree
from apiserver.cel.values import NO_OVERLOAD, CelError, CostExceeded, Maybe, TypeOf, UInt, is_list, is_map, size_of

PER_CALL_LIMIT = 1_000_000
STRING_COST, REGEX_COST = 0.1, 0.25
LIST_COST, MAP_COST, STRUCT_COST = 10, 30, 40
LIMIT_TEXT = "operation cancelled: actual cost limit exceeded"

Function = Callable[..., Any]
CallCost = Callable[[str, tuple[Any, ...], Any], "int | None"]


class BadConstant(ValueError):
    """A conversion of a literal that cannot be made, in cel-go's words."""


class Frame:
    """The variables of one evaluation, and what it has cost."""

    __slots__ = ("cost", "limit", "names")

    def __init__(self, names: Mapping[str, Any], limit: int = PER_CALL_LIMIT) -> None:
        self.names: dict[str, Any] = dict(names)
        self.cost = 0
        self.limit = limit

    def spend(self, cost: int) -> None:
        self.cost += cost
        if self.cost > self.limit:
            raise CostExceeded(LIMIT_TEXT)


Step = Callable[[Frame], Any]
_CONVERSIONS = ("bool", "bytes", "double", "duration", "int", "string", "timestamp", "uint")
_TYPES = ("bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type")


class Compiler:
    """`functions` beyond CEL's own, `call_cost` what they cost where that is not 1."""

    def __init__(self, found: tree.Tree, functions: Mapping[str, Function], call_cost: CallCost) -> None:
        self._tree = found
        self._functions = {**operators.FUNCTIONS, **functions}
        self._call_cost = call_cost

    def program(self) -> Step:
        return self._step(self._tree.root)

    def _step(self, expr: tree.Expr) -> Step:
        match expr:
            case tree.Const(_, value):
                constant = UInt(value.value) if isinstance(value, tree.UInt) else value
                return lambda _: constant
            case tree.Ident(_, name):
                return self._ident(self._tree.names.get(expr.id, name))
            case tree.Select():
                return self._select(expr)
            case tree.Call():
                return self._call(expr)
            case tree.ListOf():
                return self._list(expr)
            case tree.MapOf():
                return self._map(expr)
            case tree.Fold():
                return self._fold(expr)
        raise TypeError(expr)

    def _ident(self, name: str) -> Step:
        name = name.removeprefix(".")
        if name in _TYPES:
            return lambda _: TypeOf(name)

        def ident(frame: Frame) -> Any:
            frame.spend(1)
            try:
                return frame.names[name]
            except KeyError:
                raise CelError(f"no such attribute(s): {name}") from None

        def gathered(frame: Frame) -> Any:
            frame.spend(1)
            found = frame.names[name]
            if isinstance(found, CelError):
                raise found
            return found

        return gathered if name == macros.ACCUMULATOR else ident

    def _select(self, expr: tree.Select) -> Step:
        if (name := self._tree.names.get(expr.id)) is not None:
            return self._ident(name)  # a qualified name
        operand, field = self._step(expr.operand), expr.field
        if expr.test:
            return lambda frame: operators.has(operand(frame), field)

        def select(frame: Frame) -> Any:
            value = operand(frame)
            frame.spend(1)
            return operators.select(value, field)

        return select

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _call(self, expr: tree.Call) -> Step:
        special = {
            "_&&_": self._and,
            "_||_": self._or,
            "_?_:_": self._choice,
            "@not_strictly_false": self._not_strictly_false,
            "or": self._or_else,
            "orValue": self._or_value,
        }
        if (make := special.get(expr.function)) is not None:
            return make(expr)
        if (expanded := macros.expand(expr)) is not None:
            return self._step(expanded)
        if (taken := macros.appended(expr)) is not None:
            return self._append(taken)
        if expr.function in _CONVERSIONS and expr.target is None and isinstance(expr.args[0], tree.Const):
            return self._constant(expr.function, expr.args[0].value)
        name, steps = expr.function, [self._step(arg) for arg in expr.args]
        if expr.target is not None:
            qualified = macros.qualified(expr)
            if qualified is not None and qualified in self._functions:
                name = qualified
            else:
                steps.insert(0, self._step(expr.target))
        return self._function(name, steps, (self._tree.overloads.get(expr.id) or ("",))[0])

    def _constant(self, conversion: str, value: Any) -> Step:
        """Literals are converted beforehand."""
        given = UInt(value.value) if isinstance(value, tree.UInt) else value
        try:
            found = operators.FUNCTIONS[conversion](given)
        except CelError as err:
            raise BadConstant(str(err)) from err
        return lambda _: found

    def _function(self, name: str, steps: list[Step], overload: str) -> Step:
        function = self._functions.get(name)
        if function is None:
            raise CelError(f"no such function: {name}")
        call_cost, find_cost = self._call_cost, standard_cost

        def call(frame: Frame) -> Any:
            args = tuple([step(frame) for step in steps])
            try:
                result = function(*args)
            except (TypeError, AttributeError) as err:
                raise CelError(NO_OVERLOAD) from err
            except OverflowError as err:
                raise CelError("timestamp overflow") from err
            own = call_cost(name, args, result) if name not in operators.FUNCTIONS or name in ("_==_",) else None
            frame.spend(find_cost(name, args) if own is None else own)
            return result

        return call

    def _and(self, expr: tree.Call) -> Step:
        return self._junction(expr, stop=False)

    def _or(self, expr: tree.Call) -> Step:
        return self._junction(expr, stop=True)

    def _junction(self, expr: tree.Call, *, stop: bool) -> Step:
        """One side is enough where it decides; an error of the other is then nobody's."""
        left, right = (self._step(arg) for arg in expr.args)

        def junction(frame: Frame) -> bool:
            error: CelError | None = None
            try:
                value = left(frame)
                if not isinstance(value, bool):
                    raise CelError(NO_OVERLOAD)
                if value is stop:
                    return stop
            except CelError as err:
                error = err
            value = right(frame)
            if error is not None and value is not stop:
                raise error
            if not isinstance(value, bool):
                raise CelError(NO_OVERLOAD)
            return value

        return junction

    def _choice(self, expr: tree.Call) -> Step:
        condition, yes, no = (self._step(arg) for arg in expr.args)

        def choice(frame: Frame) -> Any:
            value = condition(frame)
            if not isinstance(value, bool):
                raise CelError(NO_OVERLOAD)
            return yes(frame) if value else no(frame)

        return choice

    def _not_strictly_false(self, expr: tree.Call) -> Step:
        inner = self._step(expr.args[0])

        def step(frame: Frame) -> bool:
            try:
                return inner(frame) is not False
            except CelError:
                return True

        return step

    def _or_else(self, expr: tree.Call) -> Step:
        first, second = self._optional(expr)

        def step(frame: Frame) -> Any:
            value = first(frame)
            return value if value.present else second(frame)

        return step

    def _or_value(self, expr: tree.Call) -> Step:
        first, second = self._optional(expr)

        def step(frame: Frame) -> Any:
            value = first(frame)
            return value.value if value.present else second(frame)

        return step

    def _optional(self, expr: tree.Call) -> tuple[Step, Step]:
        assert expr.target is not None
        target, other = self._step(expr.target), self._step(expr.args[0])

        def first(frame: Frame) -> Any:
            value = target(frame)
            if not isinstance(value, Maybe):
                raise CelError(NO_OVERLOAD)
            return value

        return first, other

    # -- literals ------------------------------------------------------------------------------------------------------

    def _list(self, expr: tree.ListOf) -> Step:
        steps = [(self._step(item), i in expr.optional) for i, item in enumerate(expr.items)]

        def build(frame: Frame) -> list[Any]:
            out = []
            for step, optional in steps:
                value = step(frame)
                if not optional:
                    out.append(value)
                elif value.present:
                    out.append(value.value)
            frame.spend(LIST_COST)
            return out

        return build

    def _append(self, taken: tree.Expr) -> Step:
        """One more item of what a comprehension gathers: nobody else has that list, so it grows in place."""
        item, cost = self._step(taken), 2 + LIST_COST

        def append(frame: Frame) -> Any:
            value = item(frame)
            frame.spend(cost)
            gathered = frame.names[macros.ACCUMULATOR]
            if isinstance(gathered, CelError):
                raise gathered
            gathered.append(value)
            return gathered

        return append

    def _map(self, expr: tree.MapOf) -> Step:
        entries = [
            (self._step(key) if isinstance(key, tree.Expr) else (lambda _, k=key: k), self._step(value), optional)
            for key, value, optional in expr.entries
        ]
        cost = STRUCT_COST if expr.message else MAP_COST

        def build(frame: Frame) -> dict[Any, Any]:
            out: dict[Any, Any] = {}
            for key_of, value_of, optional in entries:
                key, value = key_of(frame), value_of(frame)
                if optional:
                    if not value.present:
                        continue
                    value = value.value
                out[key] = value
            frame.spend(cost)
            return out

        return build

    # -- comprehensions ------------------------------------------------------------------------------------------------

    def _fold(self, expr: tree.Fold) -> Step:
        over, start, condition = self._step(expr.range), self._step(expr.start), self._step(expr.condition)
        step, result = self._step(expr.step), self._step(expr.result)
        variable, second, accumulator = expr.variable, expr.second, expr.accumulator

        def fold(frame: Frame) -> Any:
            holder = over(frame)
            items: Any
            if is_map(holder):
                items = [(key, holder[key]) for key in holder] if second else list(holder)
            elif is_list(holder):
                items = list(enumerate(holder)) if second else holder
            else:
                raise CelError(NO_OVERLOAD)
            names = frame.names
            saved = {name: names[name] for name in (variable, second, accumulator) if name in names}
            try:
                names[accumulator] = start(frame)
                for item in items:
                    if second:
                        names[variable], names[second] = item
                    else:
                        names[variable] = item
                    if not condition(frame):
                        break
                    try:
                        names[accumulator] = step(frame)
                    except CelError as err:
                        names[accumulator] = err  # a later step may do without it
                return result(frame)
            finally:
                for name in (variable, second, accumulator):
                    names.pop(name, None)
                names.update(saved)

        return fold


def standard_cost(name: str, args: tuple[Any, ...]) -> int:
    """Of a call of one of CEL's own functions."""
    match name:
        case "startsWith" | "endsWith" | "quote" | "format" | "bytes":
            return ceil(size_of(args[0]) * STRING_COST)
        case "string" if isinstance(args[0], bytes):
            return ceil(size_of(args[0]) * STRING_COST)
        case "@in" | "_in_" if is_list(args[1]):
            return size_of(args[1])
        case "_==_" | "_!=_":
            return ceil(min(size_of(args[0]), size_of(args[1])) * STRING_COST)
        case "_<_" | "_<=_" | "_>_" | "_>=_" if isinstance(args[0], str | bytes):
            return ceil(min(size_of(args[0]), size_of(args[1])) * STRING_COST)
        case "_+_" if isinstance(args[0], str | bytes):
            return ceil((size_of(args[0]) + size_of(args[1])) * STRING_COST)
        case "matches":
            return ceil((1 + size_of(args[0])) * STRING_COST) * ceil(size_of(args[1]) * REGEX_COST)
        case "contains":
            return ceil(size_of(args[0]) * STRING_COST) * ceil(size_of(args[1]) * STRING_COST)
    return 1
