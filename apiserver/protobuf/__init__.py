"""Bodies of type application/vnd.kubernetes.protobuf, decoded by tables into what JSON bodies give.

A body is four bytes of magic and a message `Unknown`: the object's apiVersion and kind, and its own message as bytes.
Source: k8s.io/apimachinery/pkg/runtime/serializer/protobuf.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apiserver.protobuf import reader, table
from apiserver.protobuf.wire import Malformed

__all__ = ["Envelope", "Malformed", "knows", "message", "open_envelope"]

MAGIC = b"k8s\x00"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a body says of itself, and the message that it carries."""

    api_version: str
    kind: str
    raw: bytes


def open_envelope(body: bytes) -> Envelope:
    """Raises Malformed where the body is not one, with upstream's texts."""
    if not body:
        raise Malformed("empty data")
    if not body.startswith(MAGIC):
        expected = " ".join(str(byte) for byte in MAGIC)
        raise Malformed(f"provided data does not appear to be a protobuf message, expected prefix [{expected}]")
    if body == MAGIC:
        raise Malformed("empty body")
    found = reader.read("pkg.runtime.Unknown", body[len(MAGIC) :])
    meta = found.get("typeMeta", {})
    return Envelope(meta.get("apiVersion", ""), meta.get("kind", ""), found.get("raw", b""))


def knows(name: str) -> bool:
    """Whether a type (`core.v1.Pod`) can be decoded."""
    return name in table.messages()


def message(name: str, raw: bytes) -> dict[str, Any]:
    """The object without apiVersion and kind. Raises Malformed; KeyError where `knows(name)` is not so."""
    return reader.read(name, raw)
