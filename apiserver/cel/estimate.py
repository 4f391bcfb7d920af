"""What an expression may cost at most, judged before it is ever run from the limits that its schema sets.

Source: cel-go checker/cost.go (how costs add up); k8s.io/apiextensions-apiserver pkg/apiserver/schema/cel (sizes).
"""

from __future__ import annotations

from typing import NamedTuple

from apiserver.cel import callcosts, macros, texts, tree
from apiserver.cel.callcosts import Value
from apiserver.cel.declared import Declared
from apiserver.cel.evaluate import LIST_COST, MAP_COST, STRUCT_COST
from apiserver.cel.library import OPAQUE
from apiserver.cel.ranges import NOTHING_YET, ONE, UNKNOWN, ZERO, Range, fixed

Path = tuple[str, ...]
_SCALARS = ("bool", "int", "uint", "double", "duration", "timestamp")
_LOGIC = {"_&&_": "logical_and", "_||_": "logical_or", "_?_:_": "conditional", "_==_": "equals", "_!=_": "not_equals"}
_KEY = Declared("string", 2, 0)


class Entries(NamedTuple):
    """The sizes of keys (or indices) and values of a list or map."""

    kind: str
    key: Range
    value: Range

    def union(self, other: Entries | None) -> Entries | None:
        if other is None:
            return None
        return Entries(self.kind, self.key.union(other.key), self.value.union(other.value))


class Local(NamedTuple):
    path: Path
    size: Range | None
    entries: Entries | None


def most(found: tree.Tree, root: Declared) -> int:
    """The most that an expression can cost; `root` is the type of `self`."""
    return _Estimator(found, root).cost(found.root).high


class _Estimator:
    """Sizes and paths are kept by node, as long as these live."""

    def __init__(self, found: tree.Tree, root: Declared) -> None:
        self._tree = found
        self._root = root
        self._locals: dict[str, list[Local]] = {}
        self._paths: dict[int, Path] = {}
        self._sizes: dict[int, Range] = {}
        self._entries: dict[int, Entries] = {}
        self._kept: list[tree.Expr] = []

    # -- what is known of a value --------------------------------------------------------------------------------------

    def _local(self, expr: tree.Expr) -> Local | None:
        found = self._locals.get(expr.name) if isinstance(expr, tree.Ident) else None
        return found[-1] if found else None

    def _path(self, expr: tree.Expr) -> Path:
        local = self._local(expr)
        return local.path if local is not None else self._paths.get(id(expr), ())

    def _declared(self, path: Path) -> Declared | None:
        """The type at a path. The first step is a variable, whichever: all are of the type of `self`."""
        if not path:
            return None
        found: Declared | None = self._root
        for step in path[1:]:
            if found is None:
                return None
            if step in ("@items", "@values"):
                found = found.items
            elif step == "@keys":
                found = _KEY if found.kind == "map" else None
            else:
                found = found.fields.get(step)
        return found

    def _kind(self, expr: tree.Expr) -> str:
        """`map`, `list`, `object`, `string`, a name of an opaque type."""
        if isinstance(expr, tree.ListOf):
            return "list"
        name = texts.type_name(self._tree.types.get(expr.id, b"")) if expr.id else "dyn"
        if name.startswith("optional_type"):
            return name
        path = self._path(expr)
        if len(path) > 1 or path in (("self",), ("oldSelf",)):
            declared = self._declared(path)
            if declared is not None:
                return declared.kind
        if not self._tree.types and isinstance(expr, tree.Call) and expr.function == "string":
            return "string"
        if name in OPAQUE:
            return name
        return "object" if name.startswith(("selfType", "object")) else name.partition("(")[0]

    def _size(self, expr: tree.Expr) -> Range | None:
        if (known := self._sizes.get(id(expr))) is not None:
            return known
        if (written := _written_size(expr)) is not None:
            return written
        if (declared := self._declared(self._path(expr))) is not None:
            self._sizes[id(expr)] = Range(0, declared.most)
            return self._sizes[id(expr)]
        if self._kind(expr) in _SCALARS:
            return ONE
        local = self._local(expr)
        return None if local is None else local.size

    def _entries_of(self, expr: tree.Expr) -> Entries | None:
        if (known := self._entries.get(id(expr))) is not None:
            return known
        local = self._local(expr)
        return None if local is None else local.entries

    def _value(self, expr: tree.Expr) -> Value:
        kind = self._kind(expr)
        literal = expr.value if isinstance(expr, tree.Const) and type(expr.value) is int else None
        item = None
        if kind == "list":
            path = self._path(expr)
            inner = self._declared((*path, "@items")) if path else None
            text = texts.type_name(self._tree.types.get(expr.id, b""))
            if (inner.kind if inner else text[5:-1]) in ("string", "bytes"):
                item = UNKNOWN if inner is None else Range(0, inner.most)
        size = self._size(expr)
        return Value(UNKNOWN if size is None else size, kind, item, literal)

    # -- costs ---------------------------------------------------------------------------------------------------------

    def cost(self, expr: tree.Expr) -> Range:
        match expr:
            case tree.Ident(_, name):
                return self._ident(expr, name)
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
        return ZERO

    def _ident(self, expr: tree.Expr, name: str) -> Range:
        local = self._locals.get(name)
        self._paths[id(expr)] = local[-1].path if local else (name,)
        return ONE

    def _select(self, expr: tree.Select) -> Range:
        cost = self.cost(expr.operand)
        if expr.test:
            return cost
        if self._kind(expr.operand) in ("map", "object"):
            cost = cost.plus(ONE)
        self._paths[id(expr)] = (*self._path(expr.operand), expr.field)
        return cost

    def _list(self, expr: tree.ListOf) -> Range:
        cost, sizes = fixed(LIST_COST), NOTHING_YET if expr.items else ZERO
        for item in expr.items:
            cost = cost.plus(self.cost(item))
            sizes = sizes.union(self._size(item) or UNKNOWN)
        self._entries[id(expr)] = Entries("list", ONE, sizes)
        return cost

    def _map(self, expr: tree.MapOf) -> Range:
        cost = fixed(STRUCT_COST if expr.message else MAP_COST)
        keys = values = NOTHING_YET if expr.entries else ZERO
        for key, value, _ in expr.entries:
            if isinstance(key, tree.Expr):
                cost = cost.plus(self.cost(key))
                keys = keys.union(self._size(key) or UNKNOWN)
            cost = cost.plus(self.cost(value))
            values = values.union(self._size(value) or UNKNOWN)
        if not expr.message:
            self._entries[id(expr)] = Entries("map", keys, values)
        return cost

    def _call(self, expr: tree.Call) -> Range:
        if (expanded := macros.expand(expr)) is not None:
            self._kept.append(expanded)
            cost = self._fold(expanded)
            self._copy(expr, expanded)
            return cost
        if expr.function == "dyn" and expr.target is None:
            cost = self.cost(expr.args[0]).plus(ONE)
            self._copy(expr, expr.args[0])
            return cost
        costs = [self.cost(arg) for arg in expr.args]
        values = [self._value(arg) for arg in expr.args]
        name, target, total = expr.function, None, ZERO
        if expr.target is not None:
            if (qualified := macros.qualified(expr)) is not None:
                name = qualified
            else:
                total = self.cost(expr.target)
                target = self._value(expr.target)
        own, size = NOTHING_YET, None
        for overload in self._tree.overloads.get(expr.id) or self._overloads(expr):
            part, made = self._overload(expr, name, overload, target, values, costs)
            own = own.union(part)
            if made is not None:
                size = made if size is None else size.union(made)
            size = self._indexed(expr, overload, size)
            if size is None:
                size = self._size(expr)
        if size is not None:
            self._sizes[id(expr)] = size
        return total.plus(own)

    def _copy(self, expr: tree.Expr, of: tree.Expr) -> None:
        """The same sizes as another."""
        if (size := self._size(of)) is not None:
            self._sizes[id(expr)] = size
        if (entries := self._entries_of(of)) is not None:
            self._entries[id(expr)] = entries

    def _overloads(self, expr: tree.Call) -> tuple[str, ...]:
        """Of an expression that could only be parsed."""
        kinds = [self._kind(arg) for arg in expr.args]
        match expr.function:
            case "_+_":
                known = [kind for kind in kinds if kind in ("string", "bytes", "list")]
                return (f"add_{known[0]}" if known else "add",)
            case "@in" | "_in_":
                return ("in_map" if kinds[1] in ("map", "object") else "in_list",)
            case "_[_]":
                return ("index_map" if kinds[0] in ("map", "object") else "index_list",)
        return (_LOGIC.get(expr.function, expr.function),)

    def _indexed(self, expr: tree.Call, overload: str, size: Range | None) -> Range | None:
        step = {"index_list": "@items", "index_map": "@values"}.get(overload)
        if step is None:
            return size
        entries = self._entries_of(expr.args[0])
        self._paths[id(expr)] = (*self._path(expr.args[0]), step)
        return None if entries is None else entries.value

    def _overload(
        self,
        expr: tree.Call,
        name: str,
        overload: str,
        target: Value | None,
        args: list[Value],
        costs: list[Range],
    ) -> tuple[Range, Range | None]:
        """The cost with that of the arguments, and the size of the result."""
        if overload in ("logical_and", "logical_or"):
            return Range(costs[0].low, costs[0].plus(costs[1]).high), None
        if overload == "conditional":
            self._set_entries(expr, expr.args[1], expr.args[2])
            return costs[0].plus(costs[1].union(costs[2])), args[1].size.union(args[2].size)
        if overload in ("add_list", "add_string", "add_bytes"):
            self._set_entries(expr, *expr.args)
        found = callcosts.call_cost(name, overload, target, args)
        cost = found.cost
        for one in costs:
            cost = cost.plus(one)
        return cost, found.size

    def _set_entries(self, expr: tree.Expr, first: tree.Expr, second: tree.Expr) -> None:
        entries = self._entries_of(first)
        if entries is not None and (both := entries.union(self._entries_of(second))) is not None:
            self._entries[id(expr)] = both

    # -- comprehensions ------------------------------------------------------------------------------------------------

    def _fold(self, expr: tree.Fold) -> Range:
        cost = self.cost(expr.range).plus(self.cost(expr.start))
        start = Local(self._path(expr.start), self._size(expr.start), self._entries_of(expr.start))
        self._locals.setdefault(expr.accumulator, []).append(start)
        names = [expr.variable, expr.second] if expr.second else [expr.variable]
        for name, local in zip(names, self._iterated(expr), strict=True):
            self._locals.setdefault(name, []).append(local)
        loop = self.cost(expr.condition).plus(self.cost(expr.step))
        for name in names:
            self._locals[name].pop()
        cost = cost.plus(self.cost(expr.result))
        self._locals[expr.accumulator].pop()
        size = self._size(expr.range)
        count = UNKNOWN if size is None else size
        if isinstance(expr.start, tree.Const):
            self._sizes[id(expr)] = self._size(expr.start) or UNKNOWN
        elif isinstance(expr.start, tree.ListOf | tree.MapOf):
            self._sizes[id(expr)] = count
            if (entries := self._entries_of(expr.step)) is not None:
                self._entries[id(expr)] = entries
        return cost.plus(count.times(loop))

    def _iterated(self, expr: tree.Fold) -> list[Local]:
        """The variables of a loop: the key (or index) and the value, or one of the two."""
        entries, path = self._entries_of(expr.range), self._path(expr.range)
        is_list = (entries.kind if entries is not None else self._kind(expr.range)) == "list"
        key = Local((*path, "@indices" if is_list else "@keys"), entries.key if entries else None, None)
        value = Local((*path, "@items" if is_list else "@values"), entries.value if entries else None, None)
        if expr.second:
            return [key, value]
        return [value if is_list else key]


def _written_size(expr: tree.Expr) -> Range | None:
    """Of literals."""
    match expr:
        case tree.Const(_, value):
            return fixed(len(value)) if isinstance(value, str | bytes) else ONE
        case tree.ListOf():
            return fixed(len(expr.items))
        case tree.MapOf() if not expr.message:
            return fixed(len(expr.entries))
    return None
