"""apiextensions.k8s.io: CustomResourceDefinition.

Source: k8s.io/apiextensions-apiserver pkg/apis/apiextensions and pkg/registry/customresourcedefinition.
"""

from __future__ import annotations

from apiserver.equality import same
from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import NAME, field
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_accessor, check_accessor_update, creating, status_only, updating


def _default(obj: Object) -> None:
    spec = obj.get("spec") or {}
    wanted = spec.get("names") or {}
    if wanted.get("kind"):
        if not wanted.get("singular"):
            wanted["singular"] = wanted["kind"].lower()
        if not wanted.get("listKind"):
            wanted["listKind"] = f"{wanted['kind']}List"
    if spec.get("conversion") is None:
        spec["conversion"] = {"strategy": "None"}
    service = ((spec["conversion"].get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service is not None and service.get("port") is None:
        service["port"] = 443
    status = obj.setdefault("status", {"acceptedNames": {"kind": "", "plural": ""}, "conditions": None})
    if not status.get("storedVersions"):
        stored = [version["name"] for version in spec.get("versions") or () if version.get("storage")][:1]
        status["storedVersions"] = stored or None


def _prepare_create(obj: Object) -> None:
    stored = [version["name"] for version in obj["spec"].get("versions") or () if version.get("storage")][:1]
    obj["status"] = {"acceptedNames": {"kind": "", "plural": ""}, "conditions": None, "storedVersions": stored or None}
    obj["metadata"]["generation"] = 1


def _prepare_update(new: Object, old: Object) -> None:
    new["status"] = dict(old.get("status") or {})
    before = old["metadata"].get("generation", 0)
    new["metadata"]["generation"] = before + (not same(new["spec"], old["spec"]))
    for version in new["spec"].get("versions") or ():
        if version.get("storage"):
            stored = new["status"].get("storedVersions") or []
            if version["name"] not in stored:
                new["status"]["storedVersions"] = [*stored, version["name"]]
            break


def _name_check(obj: Object) -> names.NameCheck:
    def check(name: str, prefix: bool) -> list[str]:
        texts = list(names.name_is_subdomain(name, prefix))
        spec = obj["spec"]
        if name != f"{(spec.get('names') or {}).get('plural') or ''}.{spec.get('group') or ''}":
            texts.append('must be spec.names.plural+"."+spec.group')
        return texts

    return check


def _check(obj: Object, faults: Faults) -> None:
    from apiserver.custom import checks

    check_accessor(obj.get("metadata") or {}, False, _name_check(obj), faults)
    checks.check_spec(obj["spec"], faults, checks.Leniency())
    checks.check_names((obj.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames", faults)
    checks.check_stored(obj, faults)
    checks.check_approval(obj, None, faults)
    checks.check_preserve(obj, None, faults)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    from apiserver.custom import checks, checks_update

    check_accessor_update(new, old, faults)
    lenient = checks_update.leniency(new, old)
    checks.check_spec(new["spec"], faults, lenient)
    checks_update.check_immutable(new["spec"], old["spec"], faults, established=lenient.immutable_names)
    checks.check_names((new.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames", faults)
    checks.check_stored(new, faults)
    checks.check_approval(new, old, faults)
    checks.check_preserve(new, old, faults)


def _check_status(new: Object, old: Object, faults: Faults) -> None:
    from apiserver.custom import checks

    check_accessor_update(new, old, faults)
    checks.check_names((new.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames", faults)


def _warnings(new: Object, old: Object | None) -> list[str]:
    from apiserver.custom import checks_update

    before = checks_update.unknown_formats(old) if old is not None else []
    return [f'unrecognized format "{name}"' for name in checks_update.unknown_formats(new) if name not in before]


CUSTOMRESOURCEDEFINITIONS = ResourceDef(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    "customresourcedefinition",
    namespaced=False,
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    subresources=("status",),
    columns=(NAME, Column("Created At", "date", "@ObjectMeta.creationTimestamp", field("metadata.creationTimestamp"))),
    strategy=Strategy(
        default=_default,
        prepare_create=_prepare_create,
        validate=creating(_check),
        prepare_update=_prepare_update,
        validate_update=updating(_check_update, namespaced=False),
        prepare_status_update=status_only,
        validate_status_update=updating(_check_status, namespaced=False),
        warnings=_warnings,
        allow_unconditional_update=False,
    ),
    storage_version_hash="jfWCUB31mvA=",
)
