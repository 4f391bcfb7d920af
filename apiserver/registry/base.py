"""What the pipeline needs to know of a resource. One table per resource, all in `apiserver.registry`; pure, no I/O.

Objects here are decoded JSON (dicts that the caller owns and the strategy may change in place).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubarium.machinery.errors import StatusCause

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column of a Table; `cell` maps an object (and the time, in seconds since the epoch) to a JSON value.

    `priority` 0 is shown always, 1 only with -o wide.
    """

    name: str
    type: str
    description: str
    cell: Callable[[Object, float], Any]
    format: str = ""
    priority: int = 0


def _nothing(_: Object) -> None: ...


def _nothing_update(_new: Object, _old: Object) -> None: ...


def _valid(_: Object) -> list[StatusCause]:
    return []


def _valid_update(_new: Object, _old: Object) -> list[StatusCause]:
    return []


@dataclass(frozen=True, slots=True)
class Strategy:
    """How objects of a resource come to be and change; each function is pure and changes only its first argument.

    Order on create: prepare_create (drops status, sets generation 1) -> default -> [admission] -> validate.
    On update: default -> prepare_update (keeps old status, bumps generation) -> [admission] -> validate_update.
    On a status update: prepare_status_update (keeps everything but status and allowed metadata) -> validate_status_update.
    """

    default: Callable[[Object], None] = _nothing
    prepare_create: Callable[[Object], None] = _nothing
    validate: Callable[[Object], list[StatusCause]] = _valid
    prepare_update: Callable[[Object, Object], None] = _nothing_update
    validate_update: Callable[[Object, Object], list[StatusCause]] = _valid_update
    prepare_status_update: Callable[[Object, Object], None] = _nothing_update
    validate_status_update: Callable[[Object, Object], list[StatusCause]] = _valid_update
    allow_create_on_update: bool = False
    allow_unconditional_update: bool = True
    graceful_delete: bool = False          # pods: deletionTimestamp first, gone when the kubelet confirms


@dataclass(frozen=True, slots=True)
class ResourceDef:
    """One served resource."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
    subresources: tuple[str, ...] = ()     # "status", "scale", "log", "exec", "binding", "eviction", "token", ...
    columns: tuple[Column, ...] = ()
    strategy: Strategy = field(default_factory=Strategy)
    field_selectors: Mapping[str, Callable[[Object], str]] = field(default_factory=dict)
    ttl_s: int = 0                         # Events
    name_is_generated_from: str = ""       # reserved for kinds whose names are not DNS subdomains

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def key(self, namespace: str = "", name: str = "") -> str:
        """`/registry/apps/deployments/default/web`; without a name the prefix, ending in a slash."""
        head = f"/registry/{self.group}/{self.plural}/" if self.group else f"/registry/core/{self.plural}/"
        return head + (f"{namespace}/" if namespace else "") + name


Validation = Sequence[StatusCause]
