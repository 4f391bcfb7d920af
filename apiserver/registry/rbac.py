"""Roles, ClusterRoles and their bindings. Who may write which of them is judged by `apiserver.auth.escalation`.

Source: kubernetes/pkg/apis/rbac/validation (order and texts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from apiserver.registry import labels, names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at
from apiserver.registry.faults import Faults, inner
from apiserver.registry.meta import check_meta, check_meta_update, creating, keep_generation, updating

GROUP = "rbac.authorization.k8s.io"
SERVICE_ACCOUNT, USER, SUBJECT_GROUP = "ServiceAccount", "User", "Group"
ROLE, CLUSTER_ROLE = "Role", "ClusterRole"

# --- rules


def _check_rules(obj: Object, namespaced: bool, faults: Faults) -> None:
    check_meta(obj, namespaced, names.path_segment_name, faults)
    for i, rule in enumerate(obj.get("rules") or ()):
        _check_rule(rule, namespaced, f"rules[{i}]", faults)


def _check_rule(rule: Object, namespaced: bool, path: str, faults: Faults) -> None:
    if not rule.get("verbs"):
        faults.required(f"{path}.verbs", "verbs must contain at least one value")
    if urls := rule.get("nonResourceURLs"):
        if namespaced:
            text = "namespaced rules cannot apply to non-resource URLs"
            faults.invalid(f"{path}.nonResourceURLs", urls, text)
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            text = "rules cannot apply to both regular resources and non-resource URLs"
            faults.invalid(f"{path}.nonResourceURLs", urls, text)
        return
    if not rule.get("apiGroups"):
        faults.required(f"{path}.apiGroups", "resource rules must supply at least one api group")
    if not rule.get("resources"):
        faults.required(f"{path}.resources", "resource rules must supply at least one resource")


def _check_role(obj: Object, faults: Faults) -> None:
    _check_rules(obj, True, faults)


def _check_role_update(new: Object, old: Object, faults: Faults) -> None:
    _check_role(new, faults)
    check_meta_update(new, old, faults)


def _check_cluster_role(obj: Object, faults: Faults, *, allow_bad_values: bool = False) -> None:
    _check_rules(obj, False, faults)
    if (aggregation := obj.get("aggregationRule")) is None:
        return
    path = "aggregationRule.clusterRoleSelectors"
    selectors = aggregation.get("clusterRoleSelectors") or ()
    if not selectors:
        faults.required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil")
    for i, selector in enumerate(selectors):
        before = len(faults)
        labels.check_selector(selector, f"{path}[{i}]", faults, allow_bad_values=allow_bad_values)
        if len(faults) > before:
            faults.invalid(f"{path}[{i}]", None, "invalid label selector.")


def _check_cluster_role_update(new: Object, old: Object, faults: Faults) -> None:
    before = Faults()
    for selector in at(old, "aggregationRule.clusterRoleSelectors", ()):
        labels.check_selector(selector, "", before)
    _check_cluster_role(new, faults, allow_bad_values=bool(before))
    check_meta_update(new, old, faults)


def _created_at(obj: Object, _now: float) -> str:
    return str(at(obj, "metadata.creationTimestamp"))


_ROLE_COLUMNS = (NAME, Column("Created At", "date", "@ObjectMeta.creationTimestamp", _created_at))


# --- bindings


def _default_binding(obj: Object) -> None:
    ref = obj.setdefault("roleRef", {})
    for key in ("apiGroup", "kind", "name"):
        ref.setdefault(key, "")
    ref["apiGroup"] = ref["apiGroup"] or GROUP
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in (USER, SUBJECT_GROUP) and not subject.get("apiGroup"):
            subject["apiGroup"] = GROUP


def _check_binding(obj: Object, namespaced: bool, faults: Faults) -> None:
    check_meta(obj, namespaced, names.path_segment_name, faults)
    ref, kinds = obj["roleRef"], (ROLE, CLUSTER_ROLE) if namespaced else (CLUSTER_ROLE,)
    if ref["apiGroup"] != GROUP:
        faults.unsupported("roleRef.apiGroup", ref["apiGroup"], (GROUP,))
    if ref["kind"] not in kinds:
        faults.unsupported("roleRef.kind", ref["kind"], kinds)
    if not ref["name"]:
        faults.required("roleRef.name")
    else:
        faults.each("roleRef.name", ref["name"], names.path_segment_name(ref["name"]))
    for i, subject in enumerate(obj.get("subjects") or ()):
        _check_subject(subject, namespaced, f"subjects[{i}]", faults)


def _check_subject(subject: Object, namespaced: bool, path: str, faults: Faults) -> None:
    name, group, kind = subject.get("name", ""), subject.get("apiGroup", ""), subject.get("kind", "")
    if not name:
        faults.required(f"{path}.name")
    if kind == SERVICE_ACCOUNT:
        if name:
            faults.each(f"{path}.name", name, names.name_is_subdomain(name))
        if group:
            faults.unsupported(f"{path}.apiGroup", group, ("",))
        if not namespaced and not subject.get("namespace"):
            faults.required(f"{path}.namespace")
    elif kind in (USER, SUBJECT_GROUP):
        if group != GROUP:
            faults.unsupported(f"{path}.apiGroup", group, (GROUP,))
    else:
        faults.unsupported(f"{path}.kind", kind, (SERVICE_ACCOUNT, USER, SUBJECT_GROUP))


def _binding_checks(
    namespaced: bool,
) -> tuple[Callable[[Object, Faults], None], Callable[[Object, Object, Faults], None]]:
    def check(obj: Object, faults: Faults) -> None:
        _check_binding(obj, namespaced, faults)

    def check_update(new: Object, old: Object, faults: Faults) -> None:
        _check_binding(new, namespaced, faults)
        check_meta_update(new, old, faults)
        if new["roleRef"] != old["roleRef"]:
            faults.invalid("roleRef", inner("rbac.v1.RoleRef", new["roleRef"]), "cannot change roleRef")

    return check, check_update


def _role_cell(obj: Object, _now: float) -> str:
    return f"{at(obj, 'roleRef.kind')}/{at(obj, 'roleRef.name')}"


def _subjects(kind: str, show: Callable[[Mapping[str, str]], str]) -> Callable[[Object, float], str]:
    def cell(obj: Object, _now: float) -> str:
        return ", ".join(show(s) for s in obj.get("subjects") or () if s.get("kind") == kind)

    return cell


_UNRESOLVED = "If the RoleRef cannot be resolved, the Authorizer must return an error."
_ROLE_TEXTS = {  # of an older API than the one that is served: the words differ
    "RoleBinding": (
        "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace. " + _UNRESOLVED
    ),
    "ClusterRoleBinding": f"RoleRef can only reference a ClusterRole in the global namespace. {_UNRESOLVED}",
}


def _binding_columns(kind: str) -> tuple[Column, ...]:
    def named(subject: Mapping[str, str]) -> str:
        return subject.get("name", "")

    def account(subject: Mapping[str, str]) -> str:
        return f"{subject.get('namespace', '')}/{named(subject)}"

    where = f"{kind[0].lower()}{kind[1:]}"
    return (
        NAME,
        Column("Role", "string", _ROLE_TEXTS[kind], _role_cell),
        AGE,
        Column("Users", "string", f"Users in the {where}", _subjects(USER, named), priority=1),
        Column("Groups", "string", f"Groups in the {where}", _subjects(SUBJECT_GROUP, named), priority=1),
        Column(
            "ServiceAccounts",
            "string",
            f"ServiceAccounts in the {where}",
            _subjects(SERVICE_ACCOUNT, account),
            priority=1,
        ),
    )


def _binding(kind: str, namespaced: bool, storage_hash: str) -> ResourceDef:
    check, check_update = _binding_checks(namespaced)
    return ResourceDef(
        GROUP,
        "v1",
        kind,
        f"{kind.lower()}s",
        kind.lower(),
        namespaced=namespaced,
        storage_version_hash=storage_hash,
        columns=_binding_columns(kind),
        strategy=Strategy(
            default=_default_binding,
            validate=creating(check),
            prepare_update=keep_generation,
            validate_update=updating(check_update, namespaced=namespaced),
            allow_create_on_update=True,
        ),
    )


CLUSTERROLEBINDINGS = _binding("ClusterRoleBinding", False, "48tpQ8gZHFc=")
ROLEBINDINGS = _binding("RoleBinding", True, "eGsCzGH6b1g=")

CLUSTERROLES = ResourceDef(
    GROUP,
    "v1",
    CLUSTER_ROLE,
    "clusterroles",
    "clusterrole",
    namespaced=False,
    storage_version_hash="bYE5ZWDrJ44=",
    columns=_ROLE_COLUMNS,
    strategy=Strategy(
        validate=creating(_check_cluster_role),
        prepare_update=keep_generation,
        validate_update=updating(_check_cluster_role_update, namespaced=False),
        allow_create_on_update=True,
    ),
)

ROLES = ResourceDef(
    GROUP,
    "v1",
    ROLE,
    "roles",
    "role",
    storage_version_hash="7FuwZcIIItM=",
    columns=_ROLE_COLUMNS,
    strategy=Strategy(
        validate=creating(_check_role),
        prepare_update=keep_generation,
        validate_update=updating(_check_role_update),
        allow_create_on_update=True,
    ),
)
