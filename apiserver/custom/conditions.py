"""The conditions of CustomResourceDefinitions that the server itself sets, and the names that are in force. Pure.

Source: Kubernetes API reference, CustomResourceDefinitionCondition; k8s.io/apiextensions-apiserver
pkg/controller/status, establish, nonstructuralschema, apiapproval and finalizer (order, reasons and texts).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from apiserver.custom.structural import NotStructural, structural
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults, quoted
from kubarium.machinery.errors import StatusCause

CLEANUP_FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"
APPROVED_ANNOTATION: Final = "api-approved.kubernetes.io"


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: str
    reason: str
    message: str


PENDING = Condition(
    "Terminating",
    "True",
    "InstanceDeletionPending",
    "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
)
IN_PROGRESS = Condition("Terminating", "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress")
COMPLETED = Condition("Terminating", "False", "InstanceDeletionCompleted", "removed all instances")
NEVER = Condition("Terminating", "False", "NeverEstablished", "resource was never established")
ESTABLISHED = Condition("Established", "True", "InitialNamesAccepted", "the initial names have been accepted")
NOT_ACCEPTED = Condition("Established", "False", "NotAccepted", "not all names are accepted")
NO_CONFLICTS = Condition("NamesAccepted", "True", "NoConflicts", "no conflicts found")


def find(definition: Object, type_: str) -> Object | None:
    for condition in (definition.get("status") or {}).get("conditions") or ():
        if condition.get("type") == type_:
            found: Object = condition
            return found
    return None


def is_true(definition: Object, type_: str) -> bool:
    return (find(definition, type_) or {}).get("status") == "True"


def set_condition(definition: Object, wanted: Condition, now: str) -> None:
    """`now` is the time as the wire has it; it is told where the status changes."""
    status = definition.setdefault("status", {})
    old = find(definition, wanted.type)
    moment = old["lastTransitionTime"] if old and old.get("status") == wanted.status else now
    new = {
        "type": wanted.type,
        "status": wanted.status,
        "lastTransitionTime": moment or now,
        "reason": wanted.reason,
        "message": wanted.message,
    }
    conditions = status.get("conditions") or []
    status["conditions"] = [new if c is old else c for c in conditions] if old else [*conditions, new]


def settled(definition: Object, others: Iterable[Object]) -> Object:
    """A copy that is up to date; conditions that change have no time yet."""
    found = {**definition, "status": dict(definition.get("status") or {})}
    settle(found, others, "")
    return found


def settle(definition: Object, others: Iterable[Object], now: str) -> None:
    """Bring names and conditions of a definition up to date, in place; `others` are the definitions of its group."""
    names, accepted = settled_names(definition, others)
    definition.setdefault("status", {})["acceptedNames"] = names
    set_condition(definition, accepted, now)
    if not is_true(definition, "Established"):
        set_condition(definition, ESTABLISHED if accepted.status == "True" else NOT_ACCEPTED, now)
    if (approval := approved(definition)) is not None:
        set_condition(definition, approval, now)
    wanted = non_structural(definition)
    if wanted is not None:
        set_condition(definition, wanted, now)
    elif find(definition, "NonStructuralSchema"):
        conditions = definition["status"]["conditions"]
        definition["status"]["conditions"] = [c for c in conditions if c["type"] != "NonStructuralSchema"]


def settled_names(definition: Object, others: Iterable[Object]) -> tuple[Object, Condition]:
    """The names in force from now on, and whether those asked for are among them."""
    wanted: Object = definition["spec"]["names"]
    accepted: Object = (definition.get("status") or {}).get("acceptedNames") or {}
    resources, kinds = names_in_use(others)
    out = dict(accepted)
    fault: tuple[str, str] | None = None
    for key, used, reason in (
        ("plural", resources, "PluralConflict"),
        ("singular", resources, "SingularConflict"),
        ("shortNames", resources, "ShortNamesConflict"),
        ("kind", kinds, "KindConflict"),
        ("listKind", kinds, "ListKindConflict"),
    ):
        asked, had = wanted.get(key), accepted.get(key)
        taken = _taken(asked, had, used)
        if taken:
            fault = (reason, taken)
        elif asked:
            out[key] = asked
        else:
            out.pop(key, None)
    out.pop("categories", None)
    if wanted.get("categories"):
        out["categories"] = wanted["categories"]
    ordered = ("plural", "singular", "shortNames", "kind", "listKind", "categories")
    found = {key: out.get(key, "") for key in ordered if key in out or key in ("plural", "kind")}
    return found, NO_CONFLICTS if fault is None else Condition("NamesAccepted", "False", *fault)


def _taken(asked: object, had: object, used: set[str]) -> str:
    if asked == had:
        return ""
    if isinstance(asked, list):
        known = had if isinstance(had, list) else []
        texts = [f"{quoted(name)} is already in use" for name in asked if name not in known and name in used]
        return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]" if texts else ""
    return f"{quoted(str(asked))} is already in use" if asked in used else ""


def names_in_use(definitions: Iterable[Object]) -> tuple[set[str], set[str]]:
    """Names of resources, and of kinds."""
    resources: set[str] = set()
    kinds: set[str] = set()
    for definition in definitions:
        names = (definition.get("status") or {}).get("acceptedNames") or {}
        resources |= {names.get("plural", ""), names.get("singular", ""), *(names.get("shortNames") or ())}
        kinds |= {names.get("kind", ""), names.get("listKind", "")}
    return resources - {""}, kinds - {""}


# --- groups of the Kubernetes community


def is_protected(group: str) -> bool:
    return group in ("k8s.io", "kubernetes.io") or group.endswith((".k8s.io", ".kubernetes.io"))


def approval(definition: Object) -> tuple[str, str]:
    """Reason (MissingAnnotation, UnapprovedAnnotation, ApprovedAnnotation, InvalidAnnotation) and text."""
    text = (definition["metadata"].get("annotations") or {}).get(APPROVED_ANNOTATION, "")
    name, see = quoted(APPROVED_ANNOTATION), "see https://github.com/kubernetes/enhancements/pull/1111"
    if not text:
        return "MissingAnnotation", f"protected groups must have approval annotation {name}, {see}"
    if text.startswith("unapproved"):
        return "UnapprovedAnnotation", f"not approved: {quoted(text)}"
    url = urlsplit(text)
    if url.scheme and url.netloc:
        return "ApprovedAnnotation", f"approved in {text}"
    either = 'with either a URL or a reason starting with "unapproved"'
    return "InvalidAnnotation", f"protected groups must have approval annotation {name} {either}, {see}"


def approved(definition: Object) -> Condition | None:
    if not is_protected(definition["spec"]["group"]):
        return None
    reason, text = approval(definition)
    status = "True" if reason == "ApprovedAnnotation" else "False"
    return Condition("KubernetesAPIApprovalPolicyConformant", status, reason, text)


# --- structural schemas


def non_structural(definition: Object) -> Condition | None:
    """Of a definition that was stored before its schema had to be structural."""
    from apiserver.custom.checks_structural import check_structural

    faults = Faults()
    spec = definition["spec"]
    if spec.get("preserveUnknownFields"):
        faults.invalid("spec.preserveUnknownFields", True, "must be false")
    for i, version in enumerate(spec["versions"]):
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if not schema:
            continue
        try:
            node = structural(schema)
        except NotStructural as err:
            text = f"failed to check validation schema for version {version['name']}: {err}"
            return Condition("NonStructuralSchema", "Unknown", "StructuralError", text)
        faults.extend(check_structural(node, f"spec.versions[{i}].schema.openAPIV3Schema"))
    if not faults:
        return None
    return Condition("NonStructuralSchema", "True", "Violations", aggregate(faults))


def aggregate(faults: Iterable[StatusCause]) -> str:
    texts = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in faults))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
