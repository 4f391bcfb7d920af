"""Validation of a pod's volumes.

Source: k8s.io/kubernetes/pkg/apis/core/validation (order, odd paths and texts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from apiserver.registry import names, persistentvolumeclaims, pv_sources
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_annotations, check_labels
from apiserver.registry.podspec_env import check_field_ref, check_resource_ref
from apiserver.registry.podspec_parts import Setting, check_choice, check_mode, check_relative_path

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MIN_TOKEN_S, _MAX_TOKEN_S = 600, 1 << 32
_PORTAL_LIMIT = 64
_ONE_KIND = "may not specify more than 1 volume type"
_META_FIELDS = (  # of a claim's template, in upstream's order: none of them can be set
    "name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "finalizers", "managedFields",
)  # fmt: skip

Check = Callable[[Object, str, Faults], None]


def check_volumes(volumes: list[Object], setting: Setting, path: str, faults: Faults) -> dict[str, Object]:
    """Checks the volumes; gives those without fault by name."""
    good: dict[str, Object] = {}
    pod = setting.meta.get("name", "")
    claims = {f"{pod}-{v.get('name', '')}" for v in volumes if pod and v.get("ephemeral") is not None}
    for i, volume in enumerate(volumes):
        found, name, where = Faults(), volume.get("name", ""), f"{path}[{i}]"
        _check_source(volume, setting, where, found)
        if not name:
            found.required(f"{where}.name")
        else:
            found.each(f"{where}.name", name, names.dns1123_label(name))
        if name in good:
            found.duplicate(f"{where}.name", name)
        if found:
            faults.extend(found)
        else:
            good[name] = volume
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
        if volume.get("persistentVolumeClaim") is not None and claim in claims:
            text = "must not reference a PVC that gets created for an ephemeral volume"
            faults.invalid(f"{where}.persistentVolumeClaim.claimName", claim, text)
    return good


def _check_source(volume: Object, setting: Setting, path: str, faults: Faults) -> None:
    found = False
    for kind, (called, second, check) in _CHECKS.items():
        if (source := volume.get(kind)) is None:
            continue
        if found:
            faults.forbidden(f"{path}.{second}", _ONE_KIND)
        else:
            check(source, f"{path}.{called}", faults)
            if kind in ("ephemeral", "image"):
                _check_for_pod(kind, source, volume.get("name", ""), setting, path, faults)
        if kind == "iscsi":
            _check_portal(source, volume.get("name", ""), path, faults)
        found = True
    if not found:
        faults.required(path, "must specify a volume type")


def _check_for_pod(kind: str, source: Object, name: str, setting: Setting, path: str, faults: Faults) -> None:
    if kind == "image":
        if setting.is_pod and not source.get("reference"):
            faults.required(f"{path}.image.reference")
        check_choice(source.get("pullPolicy", ""), PULL_POLICIES, f"{path}.image.pullPolicy", faults)
    elif name and (pod := setting.meta.get("name")):
        for text in names.name_is_subdomain(claim := f"{pod}-{name}"):
            faults.invalid(f"{path}.name", name, f'PVC name "{claim}": {text}')


def _check_portal(source: Object, name: str, path: str, faults: Faults) -> None:
    if source.get("initiatorName") is not None and len(f"{name}:{source.get('targetPortal', '')}") > _PORTAL_LIMIT:
        text = (
            "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName "
            "is specified."
        )
        faults.invalid(f"{path}.name", name, text)


# --- one for each kind


def _check_empty_dir(source: Object, path: str, faults: Faults) -> None:
    if str(source.get("sizeLimit") or "").startswith("-"):
        faults.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")


def _check_git(source: Object, path: str, faults: Faults) -> None:
    _needs("repository")(source, path, faults)
    check_relative_path(source.get("directory", ""), f"{path}.directory", faults)


def _check_key_path(item: Object, path: str, faults: Faults) -> None:
    for key in ("key", "path"):
        if not item.get(key):
            faults.required(f"{path}.{key}")
    check_relative_path(item.get("path", ""), f"{path}.path", faults, reserved=True)
    check_mode(item, "mode", path, faults)


def _named(key: str) -> Check:
    """A Secret or ConfigMap volume; `key` holds the name."""

    def check(source: Object, path: str, faults: Faults) -> None:
        if not source.get(key):
            faults.required(f"{path}.{key}")
        check_mode(source, "defaultMode", path, faults)
        for i, item in enumerate(source.get("items") or ()):
            _check_key_path(item, f"{path}.items[{i}]", faults)

    return check


def _check_downward(source: Object, path: str, faults: Faults) -> None:
    check_mode(source, "defaultMode", path, faults)
    for item in source.get("items") or ():
        _check_downward_file(item, path, faults)


def _check_downward_file(item: Object, path: str, faults: Faults) -> None:
    """`path` is that of the volume, not of the item: so upstream has it."""
    if not item.get("path"):
        faults.required(f"{path}.path")
    check_relative_path(item.get("path", ""), f"{path}.path", faults, reserved=True)
    if (ref := item.get("fieldRef")) is not None:
        check_field_ref(ref, f"{path}.fieldRef", faults, in_volume=True)
        if item.get("resourceFieldRef") is not None:
            faults.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
    elif (resource := item.get("resourceFieldRef")) is not None:
        check_resource_ref(resource, f"{path}.resourceFieldRef", faults, in_volume=True)
    else:
        faults.required(path, "one of fieldRef and resourceFieldRef is required")
    check_mode(item, "mode", path, faults)


def _check_projected(source: Object, path: str, faults: Faults) -> None:
    check_mode(source, "defaultMode", path, faults)
    seen: set[str] = set()
    for i, projection in enumerate(source.get("sources") or ()):
        where, kinds = f"{path}.sources[{i}]", 0
        for kind, check in _PROJECTIONS.items():
            if (one := projection.get(kind)) is not None:
                kinds += 1
                check(one, f"{where}.{kind}", path, seen, faults)
        if kinds > 1:
            faults.forbidden(where, f"{_ONE_KIND} per source")


def _check_unique(value: str, shown: str, path: str, seen: set[str], faults: Faults) -> None:
    if value in seen:
        faults.invalid(path, shown, "conflicting duplicate paths")
    seen.add(value)


def _project_items(source: Object, path: str, volume: str, seen: set[str], faults: Faults) -> None:
    if not source.get("name"):
        faults.required(f"{path}.name")
    for i, item in enumerate(source.get("items") or ()):
        _check_key_path(item, f"{path}.items[{i}]", faults)
        if value := item.get("path"):
            _check_unique(value, source.get("name", ""), volume, seen, faults)


def _project_downward(source: Object, path: str, volume: str, seen: set[str], faults: Faults) -> None:
    for item in source.get("items") or ():
        _check_downward_file(item, path, faults)
        if value := item.get("path"):
            _check_unique(value, value, volume, seen, faults)


def _project_token(source: Object, path: str, volume: str, _seen: set[str], faults: Faults) -> None:
    if (seconds := source.get("expirationSeconds", 0)) < _MIN_TOKEN_S:
        faults.invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
    if seconds > _MAX_TOKEN_S:
        faults.invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
    if not (value := source.get("path", "")):
        faults.required(f"{volume}.path")
    check_relative_path(value, f"{volume}.path", faults, reserved=True)


_PROJECTIONS: Mapping[str, Callable[[Object, str, str, set[str], Faults], None]] = {
    "secret": _project_items,
    "configMap": _project_items,
    "downwardAPI": _project_downward,
    "serviceAccountToken": _project_token,
}  # the others are behind features that are off


def _needs(*fields: str) -> Check:
    def check(source: Object, path: str, faults: Faults) -> None:
        for field in fields:
            if not source.get(field):
                faults.required(f"{path}.{field}")

    return check


def _with_secret(check: Check) -> Check:
    """A kind whose Secret is of the pod's own namespace: it has a name, and that is all."""

    def checked(source: Object, path: str, faults: Faults) -> None:
        check({k: v for k, v in source.items() if k != "secretRef"}, path, faults)
        if (ref := source.get("secretRef")) is not None and not ref.get("name"):
            faults.required(f"{path}.secretRef.name")

    return checked


def _check_csi(source: Object, path: str, faults: Faults) -> None:
    pv_sources.check_driver_name(source.get("driver", ""), f"{path}.driver", faults)
    if (ref := source.get("nodePublishSecretRef")) is None:
        return
    if name := ref.get("name"):
        faults.each(f"{path}.name", name, names.name_is_subdomain(name))
    else:
        faults.required(f"{path}.nodePublishSecretRef.name")


def _check_ephemeral(source: Object, path: str, faults: Faults) -> None:
    where = f"{path}.volumeClaimTemplate"
    if (template := source.get("volumeClaimTemplate")) is None:
        faults.required(where)
        return
    meta = template.get("metadata") or {}
    check_annotations(meta.get("annotations") or {}, f"{where}.metadata.annotations", faults)
    check_labels(meta.get("labels") or {}, f"{where}.metadata.labels", faults)
    for field in _META_FIELDS:
        if meta.get(field):
            faults.forbidden(f"{where}.metadata.{'uID' if field == 'uid' else field}", "cannot be set")
    persistentvolumeclaims.check_spec(template.get("spec") or {}, f"{where}.spec", faults)


def _check_nothing(_source: Object, _path: str, _faults: Faults) -> None:
    """The check needs to know more of the pod."""


_AWS = pv_sources.check_of("awsElasticBlockStore")

# In the order in which they are looked at: field -> (how paths call it, how they call a second one, check).
_CHECKS: Mapping[str, tuple[str, str, Check]] = {
    kind: (called, second, check)
    for kind, called, second, check in (
        ("emptyDir", "emptyDir", "emptyDir", _check_empty_dir),
        ("hostPath", "hostPath", "hostPath", pv_sources.check_of("hostPath")),
        ("gitRepo", "gitRepo", "gitRepo", _check_git),
        ("gcePersistentDisk", "persistentDisk", "gcePersistentDisk", pv_sources.check_of("gcePersistentDisk")),
        ("awsElasticBlockStore", "awsElasticBlockStore", "awsElasticBlockStore", _AWS),
        ("secret", "secret", "secret", _named("secretName")),
        ("nfs", "nfs", "nfs", pv_sources.check_of("nfs")),
        ("iscsi", "iscsi", "iscsi", pv_sources.check_inline_iscsi),
        ("glusterfs", "glusterfs", "glusterfs", _needs("endpoints", "path")),
        ("flocker", "flocker", "flocker", pv_sources.check_of("flocker")),
        ("persistentVolumeClaim", "persistentVolumeClaim", "persistentVolumeClaim", _needs("claimName")),
        ("rbd", "rbd", "rbd", pv_sources.check_of("rbd")),
        ("cinder", "cinder", "cinder", _with_secret(pv_sources.check_of("cinder"))),
        ("cephfs", "cephfs", "cephFS", pv_sources.check_of("cephfs")),
        ("quobyte", "quobyte", "quobyte", pv_sources.check_of("quobyte")),
        ("downwardAPI", "downwardAPI", "downwarAPI", _check_downward),
        ("fc", "fc", "fc", pv_sources.check_of("fc")),
        ("flexVolume", "flexVolume", "flexVolume", pv_sources.check_of("flexVolume")),
        ("configMap", "configMap", "configMap", _named("name")),
        ("azureFile", "azureFile", "azureFile", _needs("secretName", "shareName")),
        *(
            (kind, kind, kind, pv_sources.check_of(kind))
            for kind in ("vsphereVolume", "photonPersistentDisk", "portworxVolume", "azureDisk")
        ),
        ("storageos", "storageos", "storageos", _with_secret(pv_sources.check_of("storageos"))),
        ("projected", "projected", "projected", _check_projected),
        ("scaleIO", "scaleIO", "scaleIO", pv_sources.check_of("scaleIO")),
        ("csi", "csi", "csi", _check_csi),
        ("ephemeral", "ephemeral", "ephemeral", _check_ephemeral),
        ("image", "image", "image", _check_nothing),
    )
}
