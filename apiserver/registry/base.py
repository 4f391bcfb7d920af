"""What the pipeline needs to know of a resource. One table per resource, all in `apiserver.registry`; pure, no I/O.

Objects here are decoded JSON (dicts that the caller owns and the strategy may change in place).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apiserver.registry import priorities
from kubarium.machinery.errors import StatusCause

if TYPE_CHECKING:
    from apiserver.custom.kinds import CustomKind
    from apiserver.request import User

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


def _no_grace(_: Object, _asked: int | None) -> int:
    return 0


def _no_warnings(_new: Object, _old: Object | None) -> list[str]:
    return []


def _as_it_is(obj: Object) -> Object:
    return obj


def _no_conditions(_: Object) -> list[Object]:
    return []


@dataclass(frozen=True, slots=True)
class Part:
    """How a subresource that shows the whole object changes it: pods/resize, certificatesigningrequests/approval.

    `prepare` keeps what is none of its business, `validate` is asked afterwards.
    """

    prepare: Callable[[Object, Object], None]
    validate: Callable[[Object, Object], list[StatusCause]]
    warnings: Callable[[Object, Object | None], list[str]] = _no_warnings


@dataclass(frozen=True, slots=True)
class Strategy:
    """How objects of a resource come to be and change; each function is pure and changes only its first argument.

    Order on create: default -> [mutating admission] -> prepare_create (drops status, sets generation 1) -> validate ->
    default -> [validating admission].
    On update: default -> [mutating admission] -> prepare_update (keeps old status, bumps generation) ->
    validate_update -> [validating admission].
    On a status update: prepare_status_update (keeps everything but status and some metadata) -> validate_status_update.
    Fields belong to who writes them as they are after the first default: what comes later is the server's own.
    """

    default: Callable[[Object], None] = _nothing
    prepare_create: Callable[[Object], list[str] | None] = _nothing  # what it warns of
    validate: Callable[[Object], list[StatusCause]] = _valid
    prepare_update: Callable[[Object, Object], None] = _nothing_update
    validate_update: Callable[[Object, Object], list[StatusCause]] = _valid_update
    prepare_status_update: Callable[[Object, Object], None] = _nothing_update
    validate_status_update: Callable[[Object, Object], list[StatusCause]] = _valid_update
    warnings: Callable[[Object, Object | None], list[str]] = _no_warnings  # of a create (no old object) or an update
    status_warnings: Callable[[Object, Object | None], list[str]] = _no_warnings  # of a status update
    parts: Mapping[str, Part] = field(default_factory=dict)  # the other subresources that change the object, by name
    sign: Callable[[Object, User], None] | None = None  # who makes the object is written into it, after prepare_create
    allow_create_on_update: bool = False
    allow_unconditional_update: bool = True
    orphans: bool = False  # a delete that does not say leaves what the object owns
    delete_warning: str = ""  # of a delete that does not say what shall become of what the object owns
    graceful_delete: bool = False  # pods: deletionTimestamp first, gone when the kubelet confirms
    # With graceful_delete: seconds of grace, from what the request asked for (None: nothing); 0 deletes at once.
    grace_period_s: Callable[[Object, int | None], int] = _no_grace


@dataclass(frozen=True, slots=True)
class ResourceDef:
    """One served resource.

    `storage` names the resource under whose key objects are kept where that is another one (events.k8s.io Events are
    core Events); `to_storage` and `from_storage` then turn one form into the other (new dicts, no I/O).
    `deprecation` is the text of the warning that goes with every answer. `custom` is what a custom kind has besides.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
    subresources: tuple[str, ...] = ()  # "status", "scale", "log", "exec", "binding", "eviction", "token", ...
    columns: tuple[Column, ...] = ()
    strategy: Strategy = field(default_factory=Strategy)
    field_selectors: Mapping[str, Callable[[Object], str]] = field(default_factory=dict)
    ttl_s: int = 0  # Events
    storage: tuple[str, str] | None = None  # (group, plural)
    to_storage: Callable[[Object], Object] | None = None
    from_storage: Callable[[Object], Object] | None = None
    deprecation: str = ""
    live: bool = False  # made when it is asked for, never stored: ComponentStatus
    storage_version_hash: str = ""
    row_conditions: Callable[[Object], list[Object]] = field(default=_no_conditions)  # of a Table's row
    row_object: Callable[[Object], Object] = field(default=_as_it_is)  # whose metadata a Table's row shows
    row_order: Callable[[Object], Any] | None = None  # what the rows of a Table are sorted by, if not as a list is
    list_kind: str = ""  # where it is not the kind and `List`
    custom: CustomKind | None = None

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def key(self, namespace: str = "", name: str = "") -> str:
        """`/registry/apps/deployments/default/web`; without a name the prefix, ending in a slash."""
        group, plural = self.storage or (self.group, self.plural)
        head = f"/registry/{group or 'core'}/{plural}/"
        return head + (f"{namespace}/" if namespace else "") + name


class Registry:
    """Every served resource, looked up by path or by kind.

    Custom kinds come and go: `generation` grows with each change of what is served, so what is computed from all kinds
    (discovery, documents) is kept together with its generation.
    """

    def __init__(self, resources: Iterable[ResourceDef]) -> None:
        self._built_in = tuple(resources)
        self._custom: dict[str, tuple[ResourceDef, ...]] = {}
        self._observers: tuple[Callable[[], None], ...] = ()
        self.generation = 0
        self._index()

    def _index(self) -> None:
        self._all = self._built_in + tuple(r for found in self._custom.values() for r in found)
        self._by_path = {(r.group, r.version, r.plural): r for r in self._all}
        self._by_kind = {(r.group, r.version, r.kind): r for r in self._all}

    def __iter__(self) -> Iterator[ResourceDef]:
        return iter(self._all)

    def all(self) -> tuple[ResourceDef, ...]:
        return self._all

    def get(self, group: str, version: str, plural: str) -> ResourceDef | None:
        """By the parts of a REST path: `("apps", "v1", "deployments")`; the core group is ""."""
        return self._by_path.get((group, version, plural))

    def by_kind(self, group: str, version: str, kind: str) -> ResourceDef | None:
        """By apiVersion and kind: `("apps", "v1", "Deployment")`."""
        return self._by_kind.get((group, version, kind))

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group -> its versions, the preferred one first; groups in the order of discovery."""
        found: dict[str, set[str]] = {}
        for r in self._all:
            found.setdefault(r.group, set()).add(r.version)
        return {g: tuple(priorities.versions_in_order(g, found[g])) for g in priorities.in_order(found)}

    def serve(self, name: str, resources: Iterable[ResourceDef]) -> None:
        """Serve these (one a version; none: no longer) in place of what was served under `name` before."""
        self._custom.pop(name, None)
        if found := tuple(resources):
            self._custom[name] = found
        self.generation += 1
        self._index()
        for changed in self._observers:
            changed()

    def observe(self, changed: Callable[[], None]) -> None:
        """Call `changed` after each change of what is served."""
        self._observers = (*self._observers, changed)
