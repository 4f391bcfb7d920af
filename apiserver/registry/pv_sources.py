"""The kinds of storage that a PersistentVolume can stand for: defaults and validation of each.

Source: Kubernetes API reference, PersistentVolume v1; k8s.io/kubernetes/pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults

Check = Callable[[Object, str, Faults], None]

_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "hostPath": {"type": ""},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "iscsi": {"iscsiInterface": "default"},
    "azureDisk": {"cachingMode": "ReadWrite", "fsType": "ext4", "readOnly": False, "kind": "Shared"},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
}
_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_INITIATORS = {
    "iqn": re.compile(r"iqn\.\d{4}-\d{2}\.([0-9A-Za-z.-]+)(:[^,;*&$|\s]+)$", re.ASCII).search,
    "eui": re.compile(r"eui.[0-9A-Za-z]{16}").fullmatch,
    "naa": re.compile(r"naa.[0-9A-Za-z]{32}").fullmatch,
}
_INITIATOR_TEXT = "must be valid format starting with iqn, eui, or naa"
_BYTE = "must be between 0 and 255, inclusive"
_CHAP_NAME_LIMIT = 64
_MANAGED_URI = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_BLOB_URI = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"


def default_sources(spec: Object) -> None:
    for kind, values in _DEFAULTS.items():
        if (source := spec.get(kind)) is not None:
            for key, value in values.items():
                if source.get(key) is None or (source[key] == "" and value):
                    source[key] = value


def check_sources(spec: Object, name: str, path: str, faults: Faults) -> None:
    """Exactly one kind of storage, and that one well-formed. `name` is the volume's."""
    found = False
    for kind, (where, check) in _CHECKS.items():
        if (source := spec.get(kind)) is None:
            continue
        if found and kind != "flexVolume":
            faults.forbidden(f"{path}.{_SECOND.get(kind, kind)}", "may not specify more than 1 volume type")
            continue
        found = True
        if kind == "iscsi":
            _check_portal(source, name, f"{path}.{where}", faults)
        check(source, f"{path}.{where}", faults)
        if kind == "local" and spec.get("nodeAffinity") is None:
            faults.required(f"{path}.nodeAffinity", "Local volume requires node affinity")
    if not found:
        faults.required(path, "must specify a volume type")


# --- parts


def _needs(*fields: str) -> Check:
    def check(source: Object, path: str, faults: Faults) -> None:
        for field in fields:
            if not source.get(field):
                faults.required(f"{path}.{field}")

    return check


def _check_backsteps(value: str, path: str, faults: Faults) -> None:
    if ".." in value.split("/"):
        faults.invalid(path, value, "must not contain '..'")


def _check_named_secret(source: Object, path: str, faults: Faults) -> None:
    if (secret := source.get("secretRef")) is not None:
        _needs("name", "namespace")(secret, f"{path}.secretRef", faults)


def _check_partition(source: Object, path: str, faults: Faults) -> None:
    partition = source.get("partition", 0)
    if not 0 <= partition <= 255:
        faults.invalid(f"{path}.partition", partition, "must be between 1 and 255, inclusive")


# --- one for each kind


def _check_host_path(source: Object, path: str, faults: Faults) -> None:
    if not (value := source.get("path")):
        faults.required(f"{path}.path")
        return
    _check_backsteps(value, f"{path}.path", faults)
    if (kind := source.get("type")) not in (None, *_HOST_PATH_TYPES):
        faults.unsupported(f"{path}.type", kind, _HOST_PATH_TYPES)


def _disk(field: str) -> Check:
    def check(source: Object, path: str, faults: Faults) -> None:
        _needs(field)(source, path, faults)
        _check_partition(source, path, faults)

    return check


def _check_glusterfs(source: Object, path: str, faults: Faults) -> None:
    _needs("endpoints", "path")(source, path, faults)
    namespace = source.get("endpointsNamespace")
    if namespace == "":
        text = "if the endpointnamespace is set, it must be a valid namespace name"
        faults.invalid(f"{path}.endpointsNamespace", namespace, text)
    elif namespace is not None:
        faults.each(f"{path}.endpointsNamespace", namespace, names.name_is_label(namespace))


def _check_flocker(source: Object, path: str, faults: Faults) -> None:
    name, uuid = source.get("datasetName", ""), source.get("datasetUUID", "")
    if not name and not uuid:
        faults.required(path, "one of datasetName and datasetUUID is required")
    if name and uuid:
        faults.invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously")
    if "/" in name:
        faults.invalid(f"{path}.datasetName", name, "must not contain '/'")


def _check_nfs(source: Object, path: str, faults: Faults) -> None:
    _needs("server", "path")(source, path, faults)
    if not (value := source.get("path", "")).startswith("/"):
        faults.invalid(f"{path}.path", value, "must be an absolute path")


def _check_quobyte(source: Object, path: str, faults: Faults) -> None:
    registry, text = source.get("registry", ""), "must be a host:port pair or multiple pairs separated by commas"
    if not registry:
        faults.required(f"{path}.registry", text)
    elif len(source.get("tenant", "")) >= 65:
        faults.required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters")
    else:
        for pair in registry.split(","):
            if not re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*):[^:\[\]]*", pair):
                faults.invalid(f"{path}.registry", registry, text)
    _needs("volume")(source, path, faults)


def _initiator_fault(value: str) -> bool:
    kind = value[:3]
    return kind not in _INITIATORS or not _INITIATORS[kind](value)


def _check_iscsi(source: Object, path: str, faults: Faults) -> None:
    if not (iqn := source.get("iqn", "")):
        faults.required(f"{path}.iqn")
    elif _initiator_fault(iqn):
        faults.invalid(f"{path}.iqn", iqn, "must be valid format")
    if not 0 <= (lun := source.get("lun", 0)) <= 255:
        faults.invalid(f"{path}.lun", lun, _BYTE)
    secret = source.get("secretRef")
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and secret is None:
        faults.required(f"{path}.secretRef")
    if secret is not None and not secret.get("name"):
        faults.required(f"{path}.secretRef.name")
    if (initiator := source.get("initiatorName")) is not None and _initiator_fault(initiator):
        faults.invalid(f"{path}.initiatorname", initiator, "must be valid format")


def _check_portal(source: Object, name: str, path: str, faults: Faults) -> None:
    """The part of an iSCSI volume's checks that comes first: it looks at the volume's name, too."""
    portal = source.get("targetPortal", "")
    if not portal:
        faults.required(f"{path}.targetPortal")
    if source.get("initiatorName") is not None and len(f"{name}:{portal}") > _CHAP_NAME_LIMIT:
        text = (
            "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName "
            "is specified."
        )
        faults.invalid(f"{path}.targetportal", portal, text)


def _check_cinder(source: Object, path: str, faults: Faults) -> None:
    _needs("volumeID")(source, path, faults)
    _check_named_secret(source, path, faults)


def _check_fc(source: Object, path: str, faults: Faults) -> None:
    wwns, wwids, lun = source.get("targetWWNs"), source.get("wwids"), source.get("lun")
    if not wwns and not wwids:
        faults.required(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both")
    if wwns and wwids:
        faults.invalid(f"{path}.targetWWNs", wwns, "targetWWNs and wwids can not be specified simultaneously")
    if wwns and lun is None:
        faults.required(f"{path}.lun", "lun is required if targetWWNs is specified")
    elif wwns and not 0 <= (lun or 0) <= 255:
        faults.invalid(f"{path}.lun", lun, _BYTE)


def _check_flex(source: Object, path: str, faults: Faults) -> None:
    _needs("driver")(source, path, faults)
    for key in source.get("options") or {}:
        domain = "." + key.partition("/")[0].lower()
        if domain.endswith((".kubernetes.io", ".k8s.io")):
            faults.invalid(f"{path}.options[{key}]", key, "kubernetes.io and k8s.io namespaces are reserved")


def _check_azure_file(source: Object, path: str, faults: Faults) -> None:
    _needs("secretName", "shareName")(source, path, faults)
    if source.get("secretNamespace") == "":
        faults.required(f"{path}.secretNamespace")


def _check_azure_disk(source: Object, path: str, faults: Faults) -> None:
    uri, kind, caching = source.get("diskURI", ""), source.get("kind"), source.get("cachingMode")
    _needs("diskName", "diskURI")(source, path, faults)
    if caching not in (None, *(modes := ("None", "ReadOnly", "ReadWrite"))):
        faults.unsupported(f"{path}.cachingMode", caching, modes)
    if kind not in (None, *(kinds := ("Dedicated", "Managed", "Shared"))):
        faults.unsupported(f"{path}.kind", kind, kinds)
    if kind == "Managed" and not uri.startswith("/subscriptions/"):
        faults.unsupported(f"{path}.diskURI", uri, (_MANAGED_URI,))
    if kind not in (None, "Managed") and not uri.startswith("https://"):
        faults.unsupported(f"{path}.diskURI", uri, (_BLOB_URI,))


def _check_local(source: Object, path: str, faults: Faults) -> None:
    if not (value := source.get("path")):
        faults.required(f"{path}.path")
    else:
        _check_backsteps(value, f"{path}.path", faults)


def _check_storageos(source: Object, path: str, faults: Faults) -> None:
    if not (name := source.get("volumeName")):
        faults.required(f"{path}.volumeName")
    else:
        faults.each(f"{path}.volumeName", name, names.dns1123_label(name))
    if namespace := source.get("volumeNamespace"):
        faults.each(f"{path}.volumeNamespace", namespace, names.dns1123_label(namespace))
    _check_named_secret(source, path, faults)


def check_driver_name(name: str, path: str, faults: Faults) -> None:
    if not name:
        faults.required(path)
        return
    if len(name) > 63:
        faults.too_long(path, 63)
    faults.each(path, name, names.dns1123_subdomain(name.lower()))


def _check_csi(source: Object, path: str, faults: Faults) -> None:
    check_driver_name(source.get("driver", ""), f"{path}.driver", faults)
    _needs("volumeHandle")(source, path, faults)
    for key in ("controllerPublish", "controllerExpand", "nodePublish", "nodeExpand"):
        if (ref := source.get(f"{key}SecretRef")) is not None:
            _check_secret_reference(ref, f"{path}.{key}SecretRef", faults)


def _check_secret_reference(ref: Object, path: str, faults: Faults) -> None:
    for key, check in (("name", names.dns1123_subdomain), ("namespace", names.dns1123_label)):
        if value := ref.get(key):
            faults.each(f"{path}.{key}", value, check(value))
        else:
            faults.required(f"{path}.{key}")


# In the order in which they are looked at: field -> (how paths call it, check).
_CHECKS: Mapping[str, tuple[str, Check]] = {
    "hostPath": ("hostPath", _check_host_path),
    "gcePersistentDisk": ("persistentDisk", _disk("pdName")),
    "awsElasticBlockStore": ("awsElasticBlockStore", _disk("volumeID")),
    "glusterfs": ("glusterfs", _check_glusterfs),
    "flocker": ("flocker", _check_flocker),
    "nfs": ("nfs", _check_nfs),
    "rbd": ("rbd", _needs("monitors", "image")),
    "quobyte": ("quobyte", _check_quobyte),
    "cephfs": ("cephfs", _needs("monitors")),
    "iscsi": ("iscsi", _check_iscsi),
    "cinder": ("cinder", _check_cinder),
    "fc": ("fc", _check_fc),
    "flexVolume": ("flexVolume", _check_flex),
    "azureFile": ("azureFile", _check_azure_file),
    "vsphereVolume": ("vsphereVolume", _needs("volumePath")),
    "photonPersistentDisk": ("photonPersistentDisk", _needs("pdID")),
    "portworxVolume": ("portworxVolume", _needs("volumeID")),
    "azureDisk": ("azureDisk", _check_azure_disk),
    "scaleIO": ("scaleIO", _needs("gateway", "system", "volumeName")),
    "local": ("local", _check_local),
    "storageos": ("storageos", _check_storageos),
    "csi": ("csi", _check_csi),
}
_SECOND = {"cephfs": "cephFS"}  # what a second one is called, where that differs
SOURCES = tuple(_CHECKS)


def check_of(kind: str) -> Check:
    """The check of one kind, for volumes of pods that have it alike."""
    return _CHECKS[kind][1]


def check_inline_iscsi(source: Object, path: str, faults: Faults) -> None:
    """An iSCSI volume of a pod: its Secret is of the pod's namespace, and the texts say more."""
    _needs("targetPortal")(source, path, faults)
    found = Faults()
    _check_iscsi({k: v for k, v in source.items() if k != "initiatorName"}, path, found)
    unknown = {key for key in ("iqn", "initiatorName") if (source.get(key) or "")[:3] not in _INITIATORS}
    for cause in found:
        if cause.field == f"{path}.iqn" and source.get("iqn") and "iqn" in unknown:
            faults.invalid(f"{path}.iqn", source["iqn"], _INITIATOR_TEXT)
        elif cause.field != f"{path}.secretRef.name":
            faults.append(cause)
    if (initiator := source.get("initiatorName")) is not None and _initiator_fault(initiator):
        text = _INITIATOR_TEXT if "initiatorName" in unknown else "must be valid format"
        faults.invalid(f"{path}.initiatorname", initiator, text)
