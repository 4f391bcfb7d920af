"""Build `kubernetes.dat` from the definitions in the package kubernetes-validate: `python -m apiserver.schemas.build`.

The package holds 72 MB; we need the definitions of the stable kinds of a release, once. The file has a line of
JSON that tells where its sections stand, and the sections, each compressed JSON:
- `types`: per type its fields, [kind, argument, omitted when empty], for decoding, and what each is for merging;
- `documents`: the definitions with descriptions, as OpenAPI has them.
"""

from __future__ import annotations

import importlib.resources
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apiserver.schemas import DATA_FILE
from apiserver.schemas.gofacts import Facts, facts

VERSION = "1.36"
Json = dict[str, Any]

_SCALARS = {
    ("string", None): "string",
    ("string", "byte"): "bytes",
    ("string", "date-time"): "time",
    ("integer", "int32"): "int32",
    ("integer", "int64"): "int64",
    ("integer", None): "int64",
    ("boolean", None): "bool",
    ("number", "double"): "float",
}
_SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "intorstring",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "microtime",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "any",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Duration": "string",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "any",
}
_PLAIN = {
    "quantity": {"type": "string"},
    "intorstring": {"format": "int-or-string", "type": "string"},
    "any": {"type": "object"},
}


def read_definitions() -> Json:
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{VERSION}.0-local"
    return dict(json.loads((folder / "_definitions.json").read_text())["$defs"])


def short_name(name: str) -> str:
    """`io.k8s.api.core.v1.Pod` -> `core.v1.Pod`."""
    return ".".join(name.split(".")[-3:])


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):  # JSONSchemaProps has a property of that name
            yield node["$ref"].rpartition("/")[2]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def closure(definitions: Json, roots: list[str]) -> list[str]:
    found: dict[str, None] = {}
    todo = list(roots)
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = None
            todo += references(definitions[name])
    return sorted(found)


def kinds(definitions: Json) -> dict[tuple[str, str, str], str]:
    """(group, version, kind) -> name of the definition."""
    found: dict[tuple[str, str, str], str] = {}
    for name, definition in definitions.items():
        for gvk in definition.get("x-kubernetes-group-version-kind", ()):
            found.setdefault((gvk["group"], gvk["version"], gvk["kind"]), name)
    return found


# --- types


def field_type(schema: Json) -> list[Any]:
    """[kind] or [kind, argument]: `["list", ["struct", "core.v1.Container"]]`."""
    if ref := schema.get("$ref"):
        name = ref.rpartition("/")[2]
        return [_SPECIAL[name]] if name in _SPECIAL else ["struct", short_name(name)]
    kind = _kind(schema)
    if kind == "array":
        return ["list", field_type(schema["items"])]
    if kind == "object":
        return ["map", field_type(schema["additionalProperties"])] if "additionalProperties" in schema else ["any"]
    return [_SCALARS[kind, schema.get("format")]]


def _kind(schema: Json) -> str:
    kind = schema["type"]
    return str(kind[0] if isinstance(kind, list) else kind)


def struct(name: str, definition: Json) -> Json:
    """Fields of a type, in the order in which they are written: what each is (`t`), and marks."""
    known = facts().get(short_name(name)) or Facts(written=frozenset(definition.get("required", ())))
    fields: Json = {}
    properties = definition["properties"]
    for field in sorted(properties, key=known.order.index if known.order else None):
        schema = properties[field]
        entry: Json = {"t": field_type(schema)}
        if field in known.written:
            entry["w"] = 1
        if field in known.pointers:
            entry["p"] = 1
        if field in known.named:
            entry["n"] = known.named[field]
        if f"{field}[]" in known.named:
            entry["ni"] = known.named[f"{field}[]"]
        if field in known.embedded:
            entry["e"] = known.embedded[field]
        for key, mark in (
            ("x-kubernetes-patch-merge-key", "k"),
            ("x-kubernetes-patch-strategy", "s"),
            ("x-kubernetes-list-type", "l"),
            ("x-kubernetes-list-map-keys", "m"),
            ("x-kubernetes-map-type", "a"),
        ):
            if key in schema:
                entry[mark] = schema[key]
        fields[field] = entry
    return fields


# --- documents


def document(name: str, definition: Json) -> Json:
    """A definition as OpenAPI v2 has it: no null beside the type, no enumerated apiVersion and kind."""
    if name in _SPECIAL and _SPECIAL[name] in _PLAIN:
        return {k: v for k, v in definition.items() if k == "description"} | _PLAIN[_SPECIAL[name]]
    out: Json = _plain(definition)
    for field in ("apiVersion", "kind"):
        out.get("properties", {}).get(field, {}).pop("enum", None)
    return out


def _plain(node: Any) -> Any:
    if isinstance(node, list):
        return [_plain(value) for value in node]
    if not isinstance(node, dict):
        return node
    out = {key: _plain(value) for key, value in node.items()}
    if isinstance(out.get("type"), list) and "null" in out["type"]:
        out["type"] = next(t for t in out["type"] if t != "null")
    if isinstance(out.get("$ref"), str):
        out["$ref"] = out["$ref"].replace("#/$defs/", "#/definitions/")
    return out


def stable(gvk: tuple[str, str, str]) -> bool:
    """Whether a version is stable: v1, v2."""
    return gvk[1].lstrip("v").isdigit()


def build(definitions: Json) -> bytes:
    names = kinds(definitions)
    reached = closure(definitions, [name for gvk, name in names.items() if stable(gvk)])
    types = {
        "kinds": {"/".join(gvk): short_name(name) for gvk, name in sorted(names.items())},
        "structs": {
            short_name(n): struct(n, definitions[n])
            for n in reached
            if "properties" in definitions[n] and n not in _SPECIAL
        },
        "atomic": [short_name(n) for n in reached if definitions[n].get("x-kubernetes-map-type") == "atomic"],
    }
    documents = {n: document(n, definitions[n]) for n in reached}
    return pack({"types": types, "documents": documents})


def pack(sections: Json) -> bytes:
    index, bodies, offset = {}, [], 0
    for name, value in sections.items():
        body = zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 9)
        index[name] = [offset, len(body)]
        bodies.append(body)
        offset += len(body)
    return json.dumps(index).encode() + b"\n" + b"".join(bodies)


def unpack(data: bytes) -> Json:
    """The sections of a packed file."""
    head = data.index(b"\n") + 1
    index = json.loads(data[:head]).items()
    return {name: json.loads(zlib.decompress(data[head + at : head + at + size])) for name, (at, size) in index}


def main() -> int:
    data = build(read_definitions())
    target = Path(__file__).with_name(DATA_FILE)
    target.write_bytes(data)
    print(f"{target}: {len(data)} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
