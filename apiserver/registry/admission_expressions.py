"""CEL expressions of webhooks and admission policies: which variables each may use, and what it must yield.

The rules are checked here, when a policy is written; what they say of requests is another matter.
Source: k8s.io/apiserver/pkg/admission/plugin/cel (variables, types and texts), Kubernetes documentation "Validating
Admission Policy" and "Mutating Admission Policy".
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from apiserver.registry.faults import Faults

if TYPE_CHECKING:
    from apiserver.cel.declared import Declared
    from apiserver.cel.environment import Environment

_AUTHORIZATION = "kubernetes.authorization."
_OPAQUE = tuple(_AUTHORIZATION + n for n in ("Authorizer", "PathCheck", "GroupCheck", "ResourceCheck", "Decision"))
# Target, name, types of arguments, result; names without a dot are types of `kubernetes.authorization`.
_FUNCTIONS = """
Authorizer path string PathCheck
PathCheck check string Decision
Authorizer group string GroupCheck
Authorizer serviceAccount string,string Authorizer
GroupCheck resource string ResourceCheck
ResourceCheck subresource string ResourceCheck
ResourceCheck namespace string ResourceCheck
ResourceCheck name string ResourceCheck
ResourceCheck check string Decision
ResourceCheck fieldSelector string ResourceCheck
ResourceCheck labelSelector string ResourceCheck
Decision errored - bool
Decision error - string
Decision allowed - bool
Decision reason - string
"""
_TYPE_TEXTS = {
    "NULL": "null_type",
    "DURATION": "google.protobuf.Duration",
    "TIMESTAMP": "google.protobuf.Timestamp",
}
_SIMPLE = ("string", "int", "uint", "double", "bool", "bytes", "duration", "timestamp")
_PATCH = "JSONPatch"
_OBJECT = re.compile(r"\s*Object\s*\{").match
_LITERAL = re.compile(r"\s*(?:[\[{'\"\d-]|true\b|false\b|null\b)").match


class Expressions:
    """The checks of one policy's or webhook's expressions.

    `with_params`: there is a variable `params`; `composes`: there are `variables`, told before what uses them. Each
    check adds to the faults what is wrong with the expression at `path`.
    """

    def __init__(self, *, with_params: bool = False, composes: bool = False) -> None:
        self._with_params = with_params
        self._composes = composes
        self._variables: dict[str, Declared] = {}
        self._known: dict[tuple[bool, int], Environment] = {}

    def condition(self, expression: str, path: str, faults: Faults) -> None:
        """A match condition; it does not know the variables."""
        self._check(expression, path, faults, ("bool",), composed=False)

    def variable(self, name: str, expression: str, path: str, faults: Faults) -> None:
        """Later expressions may use it as `variables.NAME`."""
        from apiserver.cel.declared import Declared

        result = self._check(expression, path, faults, ())
        if name.isascii() and name.isidentifier():
            self._variables[name] = _declared(result or "DYN") or Declared("dyn")

    def validation(self, expression: str, path: str, faults: Faults) -> None:
        self._check(expression, path, faults, ("bool",))

    def message(self, expression: str, path: str, faults: Faults) -> None:
        """It cannot ask what the user may do."""
        self._check(expression, path, faults, ("string",), authorizer=False)

    def annotation(self, expression: str, path: str, faults: Faults) -> None:
        found = Faults()
        self._check(expression.strip(), path, found, ("string", "null_type"))
        if found:  # judged without the space round it, shown with it
            reason = found[0].message.partition(": ")[2].removeprefix(faults_value(expression.strip()))
            faults.invalid(path, expression, reason.removeprefix(": "))

    def mutation(self, kind: str, expression: str, path: str, faults: Faults) -> None:
        """Of `kind` ApplyConfiguration: yields an object; of JSONPatch: a list of patches."""
        if kind == _PATCH:
            self._check(expression, path, faults, (f"list({_PATCH})",))
        elif _OBJECT(expression):
            self._check_syntax(expression, path, faults)
        else:
            self._check(expression, path, faults, ("Object",) if _LITERAL(expression) else ())

    def _check(
        self,
        expression: str,
        path: str,
        faults: Faults,
        wanted: tuple[str, ...],
        *,
        authorizer: bool = True,
        composed: bool = True,
    ) -> str | None:
        """The name of the type that the expression has in the library; None where it has none."""
        from apiserver.cel.environment import CompileError

        try:
            result = self._environment(authorizer=authorizer, composed=composed).type_of(expression)
        except CompileError as err:
            faults.invalid(path, expression, f"compilation failed: {err}")
            return None
        if wanted and (text := type_text(result)) not in wanted:
            one = f"one of [{' '.join(wanted)}]" if len(wanted) > 1 else wanted[0]
            faults.invalid(path, expression, f"must evaluate to {one} but got {text}")
        return result

    def _check_syntax(self, expression: str, path: str, faults: Faults) -> None:
        """The types that stand for the object's own are not known here."""
        from apiserver.cel.environment import CompileError

        try:
            self._environment(authorizer=True, composed=True).parse(expression)
        except CompileError as err:
            faults.invalid(path, expression, f"compilation failed: {err}")

    def _environment(self, *, authorizer: bool, composed: bool) -> Environment:
        from apiserver.cel.declared import Declared
        from apiserver.cel.environment import Environment

        composed = composed and self._composes
        key = (authorizer, len(self._variables) if composed else -1)
        if key in self._known:
            return self._known[key]
        env = Environment([_functions()], (*_OPAQUE,))
        for name in ("object", "oldObject", *(("params",) if self._with_params else ())):
            env.declare(name, "dyn")
        request, namespace, patch = _types()
        env.declare("request", request)
        env.declare("namespaceObject", namespace)
        env.message(_PATCH, patch)
        if authorizer:
            env.declare("authorizer", f"{_AUTHORIZATION}Authorizer")
            env.declare("authorizer.requestResource", f"{_AUTHORIZATION}ResourceCheck")
        if composed:
            env.declare("variables", Declared("object", fields=dict(self._variables)))
        self._known[key] = env
        return env


def faults_value(value: str) -> str:
    """How a fault shows a value."""
    from apiserver.registry.faults import go_value

    return go_value(value)


def type_text(name: str) -> str:
    """`LIST<DYN>` as cel-go writes it: `list(dyn)`."""
    head, bracket, rest = name.partition("<")
    if bracket:
        inner = ", ".join(type_text(part) for part in _parts(rest[:-1]))
        return f"{head.lower()}({inner})"
    if head in _TYPE_TEXTS:
        return _TYPE_TEXTS[head]
    return head.lower() if head.isupper() else head


def _parts(text: str) -> list[str]:
    """`STRING, LIST<INT>`: what commas outside of brackets separate."""
    found, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += (char == "<") - (char == ">")
        if char == "," and not depth:
            found.append(text[start:at].strip())
            start = at + 1
    return [*found, text[start:].strip()]


def _declared(name: str) -> Declared | None:
    """The type of a variable by the name of its expression's type; None for what later expressions know nothing of."""
    from apiserver.cel.declared import Declared

    head, bracket, rest = name.partition("<")
    if not bracket:
        return Declared(head.lower()) if head.lower() in _SIMPLE else None
    inner = _declared(_parts(rest[:-1])[-1])
    if inner is None or inner.items is not None or head not in ("LIST", "MAP"):
        return None
    return Declared(head.lower(), items=inner) if head == "LIST" or rest.startswith("STRING,") else None


@cache
def _functions() -> Any:
    """What an authorizer can be asked. Source: k8s.io/apiserver/pkg/cel/library/authz.go."""
    from apiserver.cel.environment import cel_type, extension

    def type_of(name: str) -> Any:
        return cel_type(name if name.islower() else _AUTHORIZATION + name)

    functions = []
    for line in _FUNCTIONS.split("\n"):
        if line:
            target, name, arguments, result = line.split()
            types = [type_of(target), *(type_of(a) for a in arguments.split(",") if a != "-")]
            functions.append((name, f"{target.lower()}_{name.lower()}", types, type_of(result)))
    return extension("authorizer", functions)


@cache
def _types() -> tuple[Declared, Declared, Declared]:
    """Of the request, of its namespace, and of one operation of a JSON patch."""
    from apiserver.cel.declared import Declared

    text, number, flag, time = (Declared(kind) for kind in ("string", "int", "bool", "timestamp"))
    texts, pairs = Declared("list", items=text), Declared("map", items=text)

    def struct(**fields: Declared) -> Declared:
        return Declared("object", fields=fields)

    def named(*names: str) -> Declared:
        return struct(**dict.fromkeys(names, text))

    kind, resource = named("group", "version", "kind"), named("group", "version", "resource")
    request = struct(
        kind=kind,
        resource=resource,
        subResource=text,
        requestKind=kind,
        requestResource=resource,
        requestSubResource=text,
        name=text,
        namespace=text,
        operation=text,
        userInfo=struct(username=text, uid=text, groups=texts, extra=Declared("map")),
        dryRun=flag,
        options=Declared("dyn"),
    )
    metadata = struct(
        **dict.fromkeys(("name", "generateName", "namespace", "UID", "resourceVersion"), text),
        **dict.fromkeys(("labels", "annotations"), pairs),
        **dict.fromkeys(("creationTimestamp", "deletionTimestamp"), time),
        **dict.fromkeys(("deletionGracePeriodSeconds", "generation"), number),
        finalizers=texts,
    )
    condition = struct(**dict.fromkeys(("status", "type", "message", "reason"), text), lastTransitionTime=time)
    status = struct(conditions=Declared("list", items=condition), phase=text)
    namespace = struct(metadata=metadata, spec=struct(finalizers=texts), status=status)
    return request, namespace, struct(**dict.fromkeys(("op", "path", "from"), text), value=Declared("dyn"))
