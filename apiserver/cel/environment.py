"""Expressions parsed and checked against the types of their variables, and made into programs.

The CEL project's own library parses and checks; types of schemas are given to it as protobuf messages, which only it
sees. What it has no name for (a list of lists, a map of lists of objects) it takes for untyped.
Source: k8s.io/apiserver/pkg/cel/environment; cel-go checker (texts of errors).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from apiserver.cel import library, macros, texts, tree
from apiserver.cel.declared import Declared
from apiserver.cel.evaluate import PER_CALL_LIMIT, BadConstant, Compiler, Frame
from apiserver.cel.tree import Expr, Ident

_STRING_OR_NAME = re.compile(
    r"""r?(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|[A-Za-z_]\w*""", re.DOTALL
)
_HOLDER, _SHORTER = "_", 3  # of optional variables: `_.?Self` is `oldSelf`
_WELL_KNOWN = {"duration": ".google.protobuf.Duration", "timestamp": ".google.protobuf.Timestamp"}
_WELL_KNOWN |= {"dyn": ".google.protobuf.Value", "list": ".google.protobuf.ListValue", "map": ".google.protobuf.Struct"}


class CompileError(ValueError):
    """An expression that is none, with the text of cel-go: `ERROR: <input>:1:6: ...`."""


class InstantiationError(CompileError):
    """An expression that compiles, but has literals that no program can be made of."""


class Program:
    """A checked expression. `result` is the name of its type (`bool`), `dyn` where that is not known; `names` are the
    variables that it uses. Raises InstantiationError.
    """

    __slots__ = ("_step", "names", "result", "tree")

    def __init__(self, found: tree.Tree, result: str) -> None:
        functions = {**library.functions(), macros.INSERT: _insert}
        self.tree = found
        self.result = result
        self.names = frozenset(found.names.values()) | _identifiers(found.root)
        try:
            self._step = Compiler(found, functions, library.call_cost).program()
        except BadConstant as err:
            raise InstantiationError(str(err)) from err

    @property
    def is_typed(self) -> bool:
        """Whether all types are known: some functions, and comprehensions over two variables, the library has not."""
        return bool(self.tree.types) and not macros.any_call(self.tree.root, library.untyped())

    def run(self, variables: Mapping[str, Any], limit: int = PER_CALL_LIMIT) -> tuple[Any, int]:
        """The value, and what it has cost. Raises CelError (it has none; `cost` is an attribute), CostExceeded."""
        frame = Frame(variables, limit)
        try:
            return self._step(frame), frame.cost
        except Exception as err:
            err.cost = frame.cost  # type: ignore[attr-defined]
            raise


def _insert(holder: dict[Any, Any], key: Any, *value: Any) -> dict[Any, Any]:
    return {**holder, key: value[0]} if value else {**holder, **key}


def _identifiers(expr: Expr) -> frozenset[str]:
    if isinstance(expr, Ident):
        return frozenset({expr.name})
    return frozenset().union(*(_identifiers(inner) for inner in macros.children(expr)))


class Environment:
    """Variables and their types; `declare` them before the first `compile`. "dyn" is a variable of any type."""

    def __init__(self, extensions: Sequence[Any] = (), opaque: Sequence[str] = ()) -> None:
        """`extensions` of the library beside Kubernetes' own functions, `opaque`: names of types that they use."""
        self._messages = _Messages(opaque)
        self._extensions = list(extensions)
        self._variables: dict[str, Any] = {}
        self._optional: dict[str, Declared] = {}
        self._env: Any = None

    def declare(self, name: str, type_: Declared | str, *, optional: bool = False) -> None:
        """A variable of a schema's type, or of a type by name: `string`, `map(string, dyn)`, `dyn`."""
        found = cel_type(type_) if isinstance(type_, str) else self._messages.cel_type(type_)
        if optional:
            assert isinstance(type_, Declared)
            self._optional[name] = type_
            holder = Declared("object", fields={name[_SHORTER:]: inner for name, inner in self._optional.items()})
            self._variables[_HOLDER] = self._messages.cel_type(holder)
        else:
            self._variables[name] = found
        self._env = None

    def _written(self, source: str) -> str:
        """The text as the library can read it. It (0.1.3) knows optional types as results of what is selected, not as
        types of variables: so `_.?Self`, which is as long as the name, stands for `oldSelf`, and places in errors stay
        right.
        """
        if not self._optional:
            return source
        return _STRING_OR_NAME.sub(lambda match: self._selected(match.group()), source)

    def _selected(self, name: str) -> str:
        return f"{_HOLDER}.?{name[_SHORTER:]}" if name in self._optional else name

    def _read(self, expression: Any) -> tree.Tree:
        found = tree.read(expression.serialize())
        names = {name[_SHORTER:]: name for name in self._optional}

        def variable(expr: Expr) -> Expr | None:
            match expr:
                case tree.Call(node, "_?._", None, (Ident(_, holder), tree.Const(_, name))) if holder == _HOLDER:
                    return Ident(node, names[name])
            return None

        if not names:
            return found
        references = {node: name for node, name in found.names.items() if name not in (_HOLDER, "_?._")}
        return replace(found, root=macros.replaced(found.root, variable), names=references)

    def message(self, name: str, type_: Declared) -> None:
        """A type that expressions make values of, by its name: `JSONPatch{op: 'add'}`."""
        self._messages.named(name, type_)
        self._env = None

    def _made(self) -> Any:
        if self._env is None:
            extensions = [_optional(), _kubernetes(), *self._extensions]
            self._env = _cel().NewEnv(self._messages.pool(), variables=self._variables, extensions=extensions)
        return self._env

    def type_of(self, source: str) -> str:
        """The name of the expression's type as the library has it: `LIST<DYN>`. Raises CompileError."""
        written = self._written(source)
        try:
            return str(self._made().compile(written).return_type().name())
        except RuntimeError as err:
            if self._with_macros(written) is not None:
                return "DYN"
            raise self._fault(err, source) from err

    def parse(self, source: str) -> None:
        """Look at the syntax alone. Raises CompileError."""
        try:
            self._made().compile(self._written(source), disable_check=True)
        except RuntimeError as err:
            raise self._fault(err, source) from err

    def compile(self, source: str) -> Program:
        """Raises CompileError."""
        written = self._written(source)
        try:
            expression = self._made().compile(written)
        except RuntimeError as err:
            if (parsed := self._with_macros(written)) is not None:
                return Program(parsed, "dyn")
            raise self._fault(err, source) from err
        found = self._read(expression)
        if faults := texts.literal_faults(found, source):
            raise CompileError(faults)
        return Program(found, expression.return_type().name().lower())

    def _fault(self, err: RuntimeError, source: str) -> CompileError:
        text = texts.translated(str(err), source)
        for name in self._optional:
            text = text.replace(self._selected(name), name)
        return CompileError(text)

    def _with_macros(self, source: str) -> tree.Tree | None:
        """Expressions with comprehensions over two variables are only parsed: the library does not know these."""
        try:
            found = self._read(self._env.compile(source, disable_check=True))
        except RuntimeError:
            return None
        return found if macros.any_macro(found.root) else None


# --- the library


@cache
def _cel() -> Any:
    from cel_expr_python import cel

    return cel


@cache
def _optional() -> Any:
    from cel_expr_python.ext import ext_optional

    return ext_optional.ExtOptional()


@cache
def _kubernetes() -> Any:
    """The extension that declares Kubernetes' functions."""
    cel = _cel()
    by_name: dict[str, list[Any]] = {}
    for one in library.overloads():
        overload = cel.Overload(
            one.id,
            return_type=cel_type(one.result),
            parameters=[cel_type(type_) for type_ in one.types],
            is_member=one.member,
        )
        by_name.setdefault(one.function, []).append(overload)
    return cel.CelExtension("kubernetes", [cel.FunctionDecl(name, found) for name, found in by_name.items()])


def extension(name: str, functions: Sequence[tuple[str, str, Sequence[Any], Any]]) -> Any:
    """Functions for an environment: name, a name of its own for each overload, types of target and arguments, result.
    All have a target."""
    cel = _cel()
    by_name: dict[str, list[Any]] = {}
    for function, overload, types, result in functions:
        one = cel.Overload(overload, return_type=result, parameters=list(types), is_member=True)
        by_name.setdefault(function, []).append(one)
    return cel.CelExtension(name, [cel.FunctionDecl(function, found) for function, found in by_name.items()])


@lru_cache(maxsize=256)
def cel_type(text: str) -> Any:
    """`list(string)`, `optional(list(A))`, `map(string, dyn)`, `kubernetes.Quantity` as a type of the library."""
    cel, text = _cel(), text.strip()
    name, bracket, rest = text.partition("(")
    if bracket:
        inner = [cel_type(part) for part in library._arguments(rest[:-1])]
        if name == "list":
            return cel.Type.List(inner[0])
        return cel.Type.Map(*inner) if name == "map" else cel.Type.AbstractType("optional_type", inner)
    if text == "A":
        return cel.Type("~A")
    return cel.Type(text) if "." in text else getattr(cel.Type, text.upper())


# --- types of schemas


class _Messages:
    """Types of schemas as protobuf messages. Each object type becomes one."""

    def __init__(self, opaque: Sequence[str]) -> None:
        from google.protobuf import descriptor_pb2

        self._opaque = (*library.OPAQUE, *opaque)

        self._pb = descriptor_pb2
        self._field: Any = descriptor_pb2.FieldDescriptorProto
        self._file = descriptor_pb2.FileDescriptorProto(
            name="schema.proto",
            syntax="proto2",
            dependency=[f"google/protobuf/{name}.proto" for name in ("struct", "duration", "timestamp")],
        )
        self._made: dict[int, str] = {}
        self._kept: list[Declared] = []

    def pool(self) -> Any:
        from google.protobuf import descriptor_pool, duration_pb2, struct_pb2, timestamp_pb2

        pool = descriptor_pool.DescriptorPool()
        for module in (struct_pb2, duration_pb2, timestamp_pb2):
            pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        for name in self._opaque:
            package, _, message = name.rpartition(".")
            file = self._pb.FileDescriptorProto(name=f"{name}.proto", package=package, syntax="proto2")
            file.message_type.add(name=message)
            pool.Add(file)
        pool.Add(self._file)
        return pool

    def cel_type(self, type_: Declared) -> Any:
        cel = _cel()
        if type_.kind == "object":
            return cel.Type(self._message(type_, "object"))
        if type_.kind == "list" and type_.items is not None:
            return cel.Type.List(self.cel_type(type_.items))
        if type_.kind == "map" and type_.items is not None:
            return cel.Type.Map(cel.Type.STRING, self.cel_type(type_.items))
        return cel_type(type_.kind)

    def named(self, name: str, type_: Declared) -> None:
        """A message of that name."""
        self._made[id(type_)] = name
        self._fill(name, type_)

    def _message(self, type_: Declared, path: str) -> str:
        if (name := self._made.get(id(type_))) is not None:
            return name
        name = self._made[id(type_)] = f"selfType{len(self._made) + 1}"
        self._fill(name, type_)
        return name

    def _fill(self, name: str, type_: Declared) -> None:
        self._kept.append(type_)
        message = self._file.message_type.add(name=name)
        for number, (field, inner) in enumerate(type_.fields.items(), 1):
            self._add(message, field, number, inner)

    def _add(self, message: Any, name: str, number: int, type_: Declared) -> None:
        if number >= 19000:
            number += 1000  # numbers in between are reserved
        one, many = self._field.LABEL_OPTIONAL, self._field.LABEL_REPEATED
        entry_name = "".join(part[:1].upper() + part[1:] for part in name.split("_")) + "Entry"  # as protobuf wants it
        if any(entry_name == nested.name for nested in message.nested_type):
            type_ = Declared("map")  # of two fields with names so much alike, one is untyped
        if type_.kind == "map" and type_.items is not None:
            entry = message.nested_type.add(name=entry_name)
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, type=self._field.TYPE_STRING, label=one)
            self._set(entry.field.add(name="value", number=2, label=one), type_.items)
            found = message.field.add(name=name, number=number, label=many, json_name=f"f{number}")
            found.type, found.type_name = self._field.TYPE_MESSAGE, f".{message.name}.{entry_name}"
        elif type_.kind == "list" and type_.items is not None:
            self._set(message.field.add(name=name, number=number, label=many, json_name=f"f{number}"), type_.items)
        else:
            self._set(message.field.add(name=name, number=number, label=one, json_name=f"f{number}"), type_)

    def _set(self, field: Any, type_: Declared) -> None:
        simple = {
            "string": "STRING",
            "bytes": "BYTES",
            "int": "INT64",
            "uint": "UINT64",
            "double": "DOUBLE",
            "bool": "BOOL",
        }
        if (name := simple.get(type_.kind)) is not None:
            field.type = getattr(self._field, f"TYPE_{name}")
            return
        field.type = self._field.TYPE_MESSAGE
        field.type_name = f".{self._message(type_, '')}" if type_.kind == "object" else _WELL_KNOWN[type_.kind]
