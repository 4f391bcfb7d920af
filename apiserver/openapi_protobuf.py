"""The OpenAPI documents as protobuf, which Go clients ask for.

The messages are those of gnostic (openapi.v2 and openapi.v3), as a table: field of the document -> number and type.
A type is `s` (string), `b` (bool), `i` (int64), `d` (double), `any` (any value, as YAML text), a message, `[T]` (a list
of T), `{T}` (a message that maps names to T), or one of the few forms that the encoder has a method for.
Source: github.com/google/gnostic-models (OpenAPIv2.proto, OpenAPIv3.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import orjson

Json = Mapping[str, Any]

_V2 = """
Document swagger=1:s info=2:Info paths=8:Paths definitions=9:{Schema} security=12:[{[s]}]
    securityDefinitions=13:{SecurityItem} x=16
Info title=1:s version=2:s x=7
Paths path=2 x=1
PathItem get=2:Operation put=3:Operation post=4:Operation delete=5:Operation options=6:Operation head=7:Operation
    patch=8:Operation parameters=9:[Parameter] x=10
Operation tags=1:[s] description=3:s operationId=5:s produces=6:[s] consumes=7:[s] parameters=8:[Parameter]
    responses=9:Responses schemes=10:[s] x=13
BodyParameter description=1:s name=2:s in=3:s required=4:b schema=5:Schema x=6
QueryParameter required=1:b in=2:s description=3:s name=4:s type=6:s format=7:s uniqueItems=20:b x=23
PathParameter required=1:b in=2:s description=3:s name=4:s type=5:s format=6:s uniqueItems=19:b x=22
Response description=1:s schema=2:SchemaItem x=5
Schema $ref=1:s format=2:s title=3:s description=4:s default=5:any multipleOf=6:d maximum=7:d exclusiveMaximum=8:b
    minimum=9:d exclusiveMinimum=10:b maxLength=11:i minLength=12:i pattern=13:s maxItems=14:i minItems=15:i
    uniqueItems=16:b maxProperties=17:i minProperties=18:i required=19:[s] enum=20:[any]
    additionalProperties=21:Additional type=22:Strings items=23:Items allOf=24:[Schema] properties=25:{Schema}
    readOnly=27:b externalDocs=29:Docs example=30:any x=31
Docs description=1:s url=2:s x=3
ApiKey type=1:s name=2:s in=3:s description=4:s x=5
"""
_V3 = """
Document openapi=1:s info=2:Info paths=4:Paths components=5:Components x=9
Info title=1:s version=6:s x=7
Components schemas=1:{Schema} securitySchemes=7:{SecurityItem} x=10
Paths path=1 x=2
PathItem get=4:Operation put=5:Operation post=6:Operation delete=7:Operation options=8:Operation head=9:Operation
    patch=10:Operation parameters=13:[Parameter] x=14
Operation tags=1:[s] description=3:s operationId=5:s parameters=6:[Parameter] requestBody=7:RequestBody
    responses=8:Responses x=13
PlainParameter name=1:s in=2:s description=3:s required=4:b schema=10:Schema x=14
PlainBody description=1:s content=2:{MediaType} required=3:b x=4
MediaType schema=1:Schema x=5
Response description=1:s content=3:{MediaType} x=5
PlainSchema nullable=1:b readOnly=3:b writeOnly=4:b externalDocs=6:Docs example=7:any title=9:s multipleOf=10:d
    maximum=11:d exclusiveMaximum=12:b minimum=13:d exclusiveMinimum=14:b maxLength=15:i minLength=16:i pattern=17:s
    maxItems=18:i minItems=19:i uniqueItems=20:b maxProperties=21:i minProperties=22:i required=23:[s] enum=24:[any]
    type=25:s allOf=26:[Schema] oneOf=27:[Schema] anyOf=28:[Schema] not=29:PlainSchema items=30:Items
    properties=31:{Schema} additionalProperties=32:Additional default=33:Default description=34:s format=35:s x=36
Reference $ref=1:s
Docs description=1:s url=2:s x=3
ApiKey type=1:s description=2:s name=3:s in=4:s x=9
"""


def version2(document: Json) -> bytes:
    return _Encoder(_table(_V2), 2).message("Document", document)


def version3(document: Json) -> bytes:
    return _Encoder(_table(_V3), 3).message("Document", document)


Fields = dict[str, tuple[int, str]]


@cache
def _table(text: str) -> dict[str, Fields]:
    found: dict[str, Fields] = {}
    for line in text.strip().replace("\n    ", " ").splitlines():
        name, *entries = line.split()
        found[name] = {key: _entry(rest) for key, _, rest in (entry.partition("=") for entry in entries)}
    return found


def _entry(text: str) -> tuple[int, str]:
    number, _, kind = text.partition(":")
    return int(number), kind


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _sized(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _text(number: int, value: str) -> bytes:
    return _sized(number, value.encode())


def _any(value: Any) -> bytes:
    """JSON is YAML."""
    return _sized(2, orjson.dumps(value) + b"\n")


class _Encoder:
    def __init__(self, table: dict[str, Fields], version: int) -> None:
        self._table = table
        self._version = version
        special: dict[str, Callable[[Any], bytes]] = {
            "Paths": self._paths,
            "Responses": self._responses,
            "Parameter": self._parameter,
            "RequestBody": lambda value: _sized(1, self.message("PlainBody", value)),
            "SchemaItem": lambda value: _sized(1, self.message("Schema", value)),
            "Additional": self._additional,
            "Items": lambda value: _sized(1, self.message("Schema", value)),
            "Strings": lambda value: _text(1, value),
            "Default": self._default,
            "SecurityItem": lambda value: _sized(2 if version == 2 else 1, self.message("ApiKey", value)),
        }
        if version == 3:
            special["Schema"] = self._schema_or_reference
        self._special = special

    def message(self, name: str, value: Any) -> bytes:
        if (special := self._special.get(name)) is not None:
            return special(value)
        fields, out, extension = self._table[name], [], []
        for key, item in value.items():
            if (field := fields.get(key)) is not None and field[1]:
                out.append(self._field(*field, item))
            elif key.startswith("x-"):
                extension.append(_sized(fields["x"][0], _text(1, key) + _sized(2, _any(item))))
        return b"".join((*out, *extension))

    def _field(self, number: int, kind: str, value: Any) -> bytes:
        match kind[0]:
            case "[":
                return b"".join(self._field(number, kind[1:-1], item) for item in value)
            case "{":
                return _sized(number, self._named(kind[1:-1], value))
        match kind:
            case "s":
                return _text(number, value)
            case "b":
                return _varint(number << 3) + (b"\1" if value else b"\0")
            case "i":
                return _varint(number << 3) + _varint(int(value) & (1 << 64) - 1)
            case "d":
                return _varint(number << 3 | 1) + struct.pack("<d", value)
            case "any":
                return _sized(number, _any(value))
        return _sized(number, self.message(kind, value))

    def _named(self, kind: str, values: Json, number: int = 1) -> bytes:
        """Pairs of name and value, one after the other."""
        pairs = (_text(1, name) + self._named_value(kind, value) for name, value in values.items())
        return b"".join(_sized(number, pair) for pair in pairs)

    def _named_value(self, kind: str, value: Any) -> bytes:
        if kind == "[s]":  # a list of strings is a message of its own here
            return _sized(2, b"".join(_text(1, item) for item in value))
        return _sized(2, self.message(kind, value))

    def _paths(self, value: Json) -> bytes:
        return self._named("PathItem", value, self._table["Paths"]["path"][0])

    def _responses(self, value: Json) -> bytes:
        """Each may be a reference; ours are not."""
        number = 1 if self._version == 2 else 2
        found = (_text(1, code) + _sized(2, _sized(1, self.message("Response", one))) for code, one in value.items())
        return b"".join(_sized(number, one) for one in found)

    def _parameter(self, value: Json) -> bytes:
        if self._version == 3:
            return _sized(1, self.message("PlainParameter", value))
        if value["in"] == "body":
            return _sized(1, _sized(1, self.message("BodyParameter", value)))
        kind, number = ("PathParameter", 4) if value["in"] == "path" else ("QueryParameter", 3)
        return _sized(1, _sized(2, _sized(number, self.message(kind, value))))

    def _schema_or_reference(self, value: Json) -> bytes:
        if "$ref" in value:
            return _sized(2, self.message("Reference", value))
        return _sized(1, self.message("PlainSchema", value))

    def _additional(self, value: Any) -> bytes:
        if isinstance(value, bool):
            return _varint(2 << 3) + (b"\1" if value else b"\0")
        return _sized(1, self.message("Schema", value))

    def _default(self, value: Any) -> bytes:
        """Of version 3, which has no place for other values than these."""
        if isinstance(value, bool):
            return _varint(2 << 3) + (b"\1" if value else b"\0")
        if isinstance(value, int | float):
            return _varint(1 << 3 | 1) + struct.pack("<d", value)
        return _text(3, value) if isinstance(value, str) else b""
