"""The shapes of the API's types, read once from a data file of the project (built by `apiserver.schemas.build`)."""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path
from typing import Any

import orjson

DATA_FILE = "kubernetes.dat"


@cache
def _file() -> bytes:
    return Path(__file__).with_name(DATA_FILE).read_bytes()


def _section(name: str) -> Any:
    data = _file()
    head = data.index(b"\n")
    offset, length = orjson.loads(data[:head])[name]
    start = head + 1 + offset
    return orjson.loads(zlib.decompress(data[start : start + length]))


@cache
def types() -> dict[str, Any]:
    """`kinds`: "group/version/Kind" -> type, of every kind of a release; `structs`: type -> its fields; `atomic`: the
    types that have one owner as a whole.
    """
    section: dict[str, Any] = _section("types")
    section["structs"].setdefault("apiextensions.v1.CustomResourceSubresourceStatus", {})  # the one without fields
    return section


@cache
def documents() -> dict[str, Any]:
    """The definitions with their descriptions, by their full names (`io.k8s.api.core.v1.Pod`), in OpenAPI v2 form."""
    section: dict[str, Any] = _section("documents")
    return section


def type_name(group: str, version: str, kind: str) -> str | None:
    """The type of a kind (`core.v1.Pod`), None where no release has it."""
    name: str | None = types()["kinds"].get(f"{group}/{version}/{kind}")
    return name
