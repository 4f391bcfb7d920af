"""kubectl's JSONPath templates: `{.items[*].metadata.name}`, `{range .items[*]}{.kind}{"\\n"}{end}`, filters, slices.

Source: https://kubernetes.io/docs/reference/kubectl/jsonpath/
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from kubarium.cli.run import UsageError

Step = Callable[[Any], Iterator[Any]]


class Path(NamedTuple):
    """One `{.a.b}`: its results, with a space between them."""

    steps: tuple[Step, ...]


class Range(NamedTuple):
    """`{range PATH}BODY{end}`."""

    path: Path
    body: tuple[Any, ...]


def render(template: str, document: Any) -> str:
    """The template's text for a document. Raises UsageError for a template that cannot be read."""
    nodes, rest = _parse(_pieces(template), inside=False)
    if rest:
        raise UsageError(f"error parsing jsonpath {template}: unexpected {{end}}")
    return _text(nodes, document)


def values(expression: str, document: Any) -> list[Any]:
    """What an expression selects; braces and the leading dot may be left out, as in --sort-by and custom columns."""
    bare = expression.strip().removeprefix("{").removesuffix("}").strip()
    if not bare.startswith(("$", "@", ".", "[")):
        bare = "." + bare
    return list(_select(_path(bare), document))


def _pieces(template: str) -> list[tuple[bool, str]]:
    """(inside braces?, text), in order; braces within quotes do not count."""
    found: list[tuple[bool, str]] = []
    place = 0
    for match in re.finditer(r"\{((?:\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[^{}\"'])*)\}", template):
        if match.start() > place:
            found.append((False, template[place : match.start()]))
        found.append((True, match.group(1).strip()))
        place = match.end()
    tail = template[place:]
    if "{" in tail:
        raise UsageError(f"error parsing jsonpath {template}: unclosed action")
    return [*found, (False, tail)] if tail else found


def _parse(pieces: Sequence[tuple[bool, str]], *, inside: bool) -> tuple[tuple[Any, ...], list[tuple[bool, str]]]:
    nodes: list[Any] = []
    rest = list(pieces)
    while rest:
        braced, text = rest.pop(0)
        if not braced:
            nodes.append(text)
        elif text == "end":
            if inside:
                return tuple(nodes), rest
            return tuple(nodes), [(True, "end"), *rest]
        elif text.startswith("range"):
            body, rest = _parse(rest, inside=True)
            nodes.append(Range(_path(text[5:].strip()), body))
        elif text[:1] in "\"'" and text:
            nodes.append(_unquoted(text))
        else:
            nodes.append(_path(text))
    if inside:
        raise UsageError("error parsing jsonpath: unclosed range, expected {end}")
    return tuple(nodes), []


def _unquoted(text: str) -> str:
    inner = text[1:-1] if text[0] == '"' else text[1:-1].replace("\\'", "'").replace('"', '\\"')
    try:
        return str(json.loads(f'"{inner}"'))
    except ValueError as err:
        raise UsageError(f"error parsing jsonpath: bad string {text}") from err


def _text(nodes: Sequence[Any], document: Any) -> str:
    out: list[str] = []
    for node in nodes:
        if isinstance(node, str):
            out.append(node)
        elif isinstance(node, Range):
            out += [_text(node.body, item) for item in _select(node.path, document)]
        else:
            out.append(" ".join(_shown(value) for value in _select(node, document)))
    return "".join(out)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _select(path: Path, document: Any) -> Iterator[Any]:
    found = [document]
    for step in path.steps:
        found = [result for item in found for result in step(item)]
    return iter(found)


_STEP = re.compile(
    r"""
      \.\.                                             (?P<deep>)
    | \.(?P<field>(?:\\.|[^.\[\]\s\\])+)
    | \[\s*\?\((?P<filter>.*?)\)\s*\]
    | \[\s*(?P<star>\*)\s*\]
    | \[\s*(?P<slice>-?\d*\s*:\s*-?\d*(?:\s*:\s*-?\d*)?)\s*\]
    | \[\s*(?P<names>'(?:\\.|[^'])*'(?:\s*,\s*'(?:\\.|[^'])*')*)\s*\]
    | \[\s*(?P<dnames>"(?:\\.|[^"])*"(?:\s*,\s*"(?:\\.|[^"])*")*)\s*\]
    | \[\s*(?P<indices>-?\d+(?:\s*,\s*-?\d+)*)\s*\]
    | (?P<dot>\.)
    """,
    re.VERBOSE,
)


def _path(text: str) -> Path:
    text = text.strip()
    place = 1 if text[:1] in ("$", "@") and text else 0
    steps: list[Step] = []
    while place < len(text):
        found = _STEP.match(text, place)
        if found is None:
            raise UsageError(f"error parsing jsonpath {{{text}}}: unrecognized character at {text[place:]!r}")
        place = found.end()
        if found.group("deep") is not None:
            steps.append(_descendants)
            place -= 1 if text[place : place + 1] not in ("[", "") else 0
        elif found.group("dot") is None:
            steps.append(_step(found))
    return Path(tuple(steps))


def _step(found: re.Match[str]) -> Step:
    if (name := found.group("field")) is not None:
        name = re.sub(r"\\(.)", r"\1", name)
        return _children if name == "*" else _fields(name)
    if found.group("star"):
        return _children
    if (condition := found.group("filter")) is not None:
        return _filter(condition)
    if (bounds := found.group("slice")) is not None:
        numbers = [int(part) if part.strip() else None for part in bounds.split(":")]
        return lambda item: iter(item[slice(*numbers)] if isinstance(item, list) else ())
    if (indices := found.group("indices")) is not None:
        return _indices([int(index) for index in indices.split(",")])
    quoted = found.group("names") or found.group("dnames") or ""
    quote = quoted[0]
    names = re.findall(rf"{quote}((?:\\.|[^{quote}])*){quote}", quoted)
    return _fields(*(re.sub(r"\\(.)", r"\1", name) for name in names))


def _fields(*names: str) -> Step:
    return lambda item: iter([item[name] for name in names if isinstance(item, dict) and name in item])


def _indices(wanted: Sequence[int]) -> Step:
    def step(item: Any) -> Iterator[Any]:
        for index in wanted:
            if isinstance(item, list) and -len(item) <= index < len(item):
                yield item[index]

    return step


def _children(item: Any) -> Iterator[Any]:
    if isinstance(item, dict):
        return iter(item.values())
    return iter(item if isinstance(item, list) else ())


def _descendants(item: Any) -> Iterator[Any]:
    yield item
    for child in _children(item):
        yield from _descendants(child)


_CONDITION = re.compile(r"^(?P<left>.+?)\s*(?P<operator>==|!=|<=|>=|<|>)\s*(?P<right>.+)$", re.DOTALL)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


def _filter(condition: str) -> Step:
    found = _CONDITION.match(condition.strip())
    if found is None:
        path = _path(condition)
        return lambda item: (entry for entry in _children(item) if any(True for _ in _select(path, entry)))
    left, right = _operand(found.group("left")), _operand(found.group("right"))
    compare = _OPERATORS[found.group("operator")]

    def step(item: Any) -> Iterator[Any]:
        for entry in _children(item):
            a, b = left(entry), right(entry)
            try:
                if a and b and compare(a[0], b[0]):
                    yield entry
            except TypeError:
                continue  # a string is neither more nor less than a number

    return step


def _operand(text: str) -> Callable[[Any], list[Any]]:
    text = text.strip()
    if text[:1] in ("@", "$", "."):
        path = _path(text)
        return lambda entry: list(_select(path, entry))
    if text[:1] in ("'", '"') and text:
        constant: Any = _unquoted(text)
    else:
        try:
            constant = json.loads(text)
        except ValueError as err:
            raise UsageError(f"error parsing jsonpath: cannot understand {text!r} in a filter") from err
    return lambda _: [constant]
