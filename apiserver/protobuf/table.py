"""What the numbers of a message stand for, read once from a data file of the project (built by `build.py`)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

DATA_FILE = "messages.dat"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message. `name` is the one that JSON has, "" for an embedded struct; `type` is that of one value."""

    name: str
    type: str
    repeated: bool = False
    mapped: bool = False


@cache
def messages() -> dict[str, dict[str, list[str]]]:
    """Message (`core.v1.Pod`) -> field number -> [name, type], as the file has it."""
    packed = Path(__file__).with_name(DATA_FILE).read_bytes()
    found: dict[str, Any] = orjson.loads(zlib.decompress(packed))
    return found


@cache
def fields(message: str) -> dict[int, Field]:
    """The fields of a message by number. Raises KeyError where there is no such message."""
    return {int(number): _field(*entry) for number, entry in messages()[message].items()}


def _field(name: str, type_: str) -> Field:
    if type_.startswith("[]"):
        return Field(name, type_[2:], repeated=True)
    if type_.startswith("{}"):
        return Field(name, type_[2:], mapped=True)
    return Field(name, type_)
