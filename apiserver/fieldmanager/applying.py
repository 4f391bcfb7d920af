"""Server-side apply: an applied configuration and the stored object make the new object and its entries. Pure.

Who applies owns what the configuration says, and no more: what it said last time and says no longer goes, unless
somebody else owns it. A value that differs from what somebody else owns is a conflict, or taken over by force.
Source: Kubernetes documentation, "Server-Side Apply"; KEP-555.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from apiserver import decode, patching, replies
from apiserver.fieldmanager.conflicts import Owned, conflict_error
from apiserver.fieldmanager.entries import APPLY, UPDATE, Entry, Managed, Manager, by_manager, in_order, make
from apiserver.fieldmanager.fieldsets import Fields, difference, intersection, union
from apiserver.fieldmanager.roots import Root, root_of
from apiserver.registry.base import Object, ResourceDef
from apiserver.schemas import shape
from kubarium.machinery.errors import ApiError, BadRequest, NotFound, RequestEntityTooLarge

CONTENT_TYPE = "application/apply-patch+yaml"
BEFORE_FIRST = "before-first-apply"
_SCALE = "autoscaling/v1"
_KUBECTL = "kubectl"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class Apply:
    """One call: `name` of the manager, `now` the time as the wire has it."""

    resource: ResourceDef
    subresource: str
    config: Object
    name: str
    force: bool
    now: str

    @property
    def root(self) -> Root:
        found = root_of(self.resource, self.subresource)
        if found is None:
            raise NotFound(f"no schema for {self.resource.api_version} {self.resource.kind}: it cannot be applied")
        return found

    @property
    def me(self) -> Manager:
        return Manager(self.name, APPLY, "", self.subresource)


def is_apply(content_type: str) -> bool:
    """Whether a patch of that type is a server-side apply."""
    return content_type.partition(";")[0].strip().lower() == CONTENT_TYPE


def read_config(body: bytes, resource: ResourceDef, field_validation: str) -> tuple[Object, list[str]]:
    """The applied configuration (YAML or JSON) and warnings for the client. Raises BadRequest."""
    if len(body) > decode.MAX_BODY_B:
        raise RequestEntityTooLarge(f"Request entity too large: limit is {decode.MAX_BODY_B}")
    try:
        config, duplicates = decode.read_yaml(body)
    except ValueError as err:
        raise BadRequest(f"error decoding YAML: error converting YAML to JSON: {err}") from err
    if config is None:
        config = {}
    if not isinstance(config, dict):
        text = f"json: cannot unmarshal {shape.json_kind(config)} into Go value of type map[string]interface {{}}"
        raise BadRequest(f"error decoding YAML: error unmarshaling JSON: while decoding JSON: {text}")
    found = decode.repeated(duplicates, field_validation)
    if found and field_validation == "Strict":
        raise BadRequest(f"error strict decoding YAML: error converting YAML to JSON: {', '.join(found)}")
    return config, [] if field_validation == "Ignore" else found


def check_config(config: Object, resource: ResourceDef, root: Root) -> None:
    """Whether the configuration is of the resource's type. Raises BadRequest, or an error without a reason."""
    version, kind = config.get("apiVersion") or "", config.get("kind") or ""
    if resource.custom is None and (version, kind) != (resource.api_version, resource.kind):
        raise BadRequest(f"invalid object type: {version if '/' in version else f'/{version}'}, Kind={kind}")
    if version != resource.api_version:
        if resource.custom is not None and not resource.custom.has_version(version):
            raise BadRequest(f"invalid object type: {version}, Kind={kind}")
        text = f"Incorrect version specified in apply patch. Specified patch version: {version}, expected: "
        raise BadRequest(text + resource.api_version)
    if kind != resource.kind:
        raise BadRequest(
            f"Incorrect kind specified in apply patch. Specified patch kind: {kind}, expected: {resource.kind}"
        )
    metadata = config.get("metadata")
    if isinstance(metadata, dict) and metadata.get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")
    faults: list[str] = []
    root.node.check(config, "", faults)
    if faults:
        shown = faults[0] if len(faults) == 1 else "\n".join(["errors:", *(f"  {fault}" for fault in faults)])
        raise replies.unnamed_error(f"failed to create typed patch object ({_shown(config)}): {shown}")


def _shown(config: Object) -> str:
    """`default/web; apps/v1, Kind=Deployment`, as upstream names the object of a typed error."""
    metadata = config.get("metadata") if isinstance(config.get("metadata"), dict) else {}
    assert metadata is not None
    version = config["apiVersion"] if "/" in config["apiVersion"] else f"/{config['apiVersion']}"
    return f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}; {version}, Kind={config['kind']}"


def apply(call: Apply, live: Object) -> tuple[Object, list[Entry]]:
    """The new object in written form (not yet defaulted), and its entries. `live` is {} where there is none.

    Raises BadRequest, Conflict, and an error without a reason where the configuration is not of the type.
    """
    root = call.root
    check_config(call.config, call.resource, root)
    live = {**(live or root.zero)}
    live["metadata"] = dict(live.get("metadata") or {})
    entries = live["metadata"].pop("managedFields", None)
    managed = by_manager(entries or ()) or _before_first(call, live)
    merged, managed, conflicts = _combine(call, root, live, managed)
    if conflicts and not call.force and (left := _disputed(call, root, live, conflicts)):
        raise conflict_error(_on_scale(left) if call.subresource == "scale" else left)
    if call.name == _KUBECTL:
        _renew_last_applied(merged, call.config)
    return _as_object(merged, call, root), in_order(managed)


def _on_scale(conflicts: list[Owned]) -> list[Owned]:
    """Who applies a Scale is told of the owners of a Scale."""
    shown = [(m._replace(api_version=_SCALE) if m.api_version else m, fields) for m, fields in conflicts]
    return [Owned(manager, fields) for manager, fields in shown]


def _combine(call: Apply, root: Root, live: Object, managed: Managed) -> tuple[Object, Managed, list[Owned]]:
    """The merged object, the entries as they are if nobody objects, and what others own of what changes."""
    me, before = call.me, managed.get(call.me)
    claim = root.node.claimed(call.config) or {}
    mine = make(me, call.resource.api_version, claim, call.now)
    out: Managed = {**managed, me: mine}
    merged = root.node.merge(live, call.config)
    if before:
        merged = _pruned(root, merged, before["fieldsV1"], out) or {}
    changed, removed = root.node.compare(live, merged) if live != merged else (None, None)
    conflicts = []
    for manager, entry in managed.items():
        if manager == me:
            continue
        fields = entry["fieldsV1"]
        if changed and (shared := intersection(fields, changed)):
            conflicts.append(Owned(manager, shared))
            fields = difference(fields, shared)
        if removed:
            fields = difference(fields, removed)
        if fields is not entry["fieldsV1"]:
            out[manager] = {**entry, "fieldsV1": fields}
    if changed is None and removed is None:  # the time is that of a change: there may have been none yet
        out[me] = {key: value for key, value in mine.items() if key != "time"}
        if before and "time" in before:
            out[me]["time"] = before["time"]
    return merged, {manager: entry for manager, entry in out.items() if entry["fieldsV1"]}, conflicts


def _pruned(root: Root, merged: Object, last: Fields, managed: Managed) -> Object | None:
    """Without what the manager owned and nobody owns any more."""
    node = root.node
    owned: Fields = {"f:metadata": {}}  # its name is in it, which nobody owns
    for entry in managed.values():
        owned = union(owned, entry["fieldsV1"])
    gone = difference(node.named(last), node.named(owned))
    found: Object | None = node.remove(merged, gone) if gone else merged
    return found


def _before_first(call: Apply, live: Object) -> Managed:
    """Entries of an object that has none: all that is there belongs to whoever was before."""
    root = call.root
    changed, _ = root.node.compare(root.zero, live) if root.zero != live else (None, None)
    if not changed:
        return {}
    owner = Manager(BEFORE_FIRST, UPDATE, call.resource.api_version, call.subresource)
    return {owner: make(owner, call.resource.api_version, changed, call.now)}


def _as_object(value: Object, call: Apply, root: Root) -> Object:
    resource = call.resource
    if resource.custom is not None:
        value["apiVersion"], value["kind"] = resource.api_version, resource.kind
        return resource.custom.applied(value)
    report = shape.Report()
    obj = shape.struct(root.type_name).convert(value, "", report)
    if report.error:
        shown = _shown(call.config)
        kind = shown.partition("; ")[2]
        raise replies.unnamed_error(
            f"failed to convert new object ({shown}) to proper version: unable to convert unstructured object to "
            f"{kind}: {patching.restore_error(report)}"
        )
    obj["apiVersion"], obj["kind"] = resource.api_version, resource.kind
    return obj


# --- kubectl apply, from the client's side to the server's


def _last_applied(obj: Object) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(_LAST_APPLIED) or "")


def _renew_last_applied(merged: Object, config: Object) -> None:
    """kubectl on an object that it applied from the client's side before: the annotation there is kept up to date."""
    if _last_applied(merged):
        text = orjson.dumps(config, option=orjson.OPT_SORT_KEYS).decode() + "\n"
        metadata = merged["metadata"] = dict(merged["metadata"])
        metadata["annotations"] = {**metadata["annotations"], _LAST_APPLIED: text}


def _disputed(call: Apply, root: Root, live: Object, conflicts: list[Owned]) -> list[Owned]:
    """Conflicts that stay: kubectl may take over what it applied from the client's side and nobody changed since."""
    if call.name != _KUBECTL or not (text := _last_applied(live)):
        return conflicts
    try:
        last = orjson.loads(text)
        check_config(last, call.resource, root)
    except (ValueError, ApiError):
        return conflicts
    own: Fields = root.node.claimed(last) or {}
    for found in root.node.compare(last, live):
        own = difference(own, found) if found else own
    left = (Owned(manager, difference(fields, own)) for manager, fields in conflicts)
    return [conflict for conflict in left if conflict.fields]
