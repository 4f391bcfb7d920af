"""ConfigMaps and Secrets.

Source: k8s.io/kubernetes/pkg/registry/core/secret and pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

import base64

from apiserver import gojson
from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at, field, selectable
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_immutable,
    check_meta,
    check_meta_update,
    creating,
    keep_generation,
    updating,
)
from apiserver.registry.pem import key_pair_fault

MAX_DATA_B = 1024 * 1024
_FIXED = "field is immutable when `immutable` is set"


def _check_config_map(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    for key in data:
        faults.each(f"data[{key}]", key, names.config_map_key(key))
        if key in binary:
            faults.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
    for key in binary:
        faults.each(f"binaryData[{key}]", key, names.config_map_key(key))
    size = sum(len(v.encode()) for v in data.values()) + sum(len(v) * 3 // 4 for v in binary.values())
    if size > MAX_DATA_B:
        faults.too_long("[]", MAX_DATA_B)


def _check_fixed(new: Object, old: Object, fields: tuple[str, ...], faults: Faults) -> None:
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        faults.forbidden("immutable", _FIXED)
    for key in fields:
        if (new.get(key) or {}) != (old.get(key) or {}):
            faults.forbidden(key, _FIXED)


def _check_config_map_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_fixed(new, old, ("data", "binaryData"), faults)
    _check_config_map(new, faults)


def _count(*keys: str) -> Column:
    return Column("Data", "string", f"@{'ConfigMap' if len(keys) > 1 else 'Secret'}.data", lambda o, _: _total(o, keys))


def _total(obj: Object, keys: tuple[str, ...]) -> int:
    return sum(len(obj.get(key) or ()) for key in keys)


CONFIGMAPS = ResourceDef(
    "",
    "v1",
    "ConfigMap",
    "configmaps",
    "configmap",
    short_names=("cm",),
    storage_version_hash="qFsyl6wFWjQ=",
    columns=(NAME, _count("data", "binaryData"), AGE),
    strategy=Strategy(
        validate=creating(_check_config_map),
        prepare_update=keep_generation,
        validate_update=updating(_check_config_map_update),
    ),
)

_OPAQUE, _TLS = "Opaque", "kubernetes.io/tls"
_NEEDS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    _TLS: ("tls.crt", "tls.key"),
}
_TOKEN_ANNOTATION = "kubernetes.io/service-account.name"
_JSON_KINDS = {"[": "array", '"': "string", "t": "bool", "f": "bool"}  # by the first character; all others are numbers


def _default_secret(obj: Object) -> None:
    if strings := obj.pop("stringData", None):
        data = obj["data"] = obj.get("data") or {}
        data.update({k: base64.b64encode(v.encode()).decode() for k, v in strings.items()})
    if not obj.get("type"):
        obj["type"] = _OPAQUE


def _check_secret(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    data, kind = obj.get("data") or {}, obj.get("type")
    for key in data:
        faults.each(f"data[{key}]", key, names.config_map_key(key))
    if sum(len(v) * 3 // 4 for v in data.values()) > MAX_DATA_B:
        faults.too_long("data", MAX_DATA_B)
    if kind == "kubernetes.io/service-account-token":
        if not at(obj, "metadata.annotations", {}).get(_TOKEN_ANNOTATION):
            faults.required(f"metadata.annotations[{_TOKEN_ANNOTATION}]")
    elif kind == "kubernetes.io/basic-auth" and "username" not in data and "password" not in data:
        faults.required("data[username]")
        faults.required("data[password]")
    for key in _NEEDS.get(kind or "", ()):
        if key not in data or (key == "ssh-privatekey" and not data[key]):
            faults.required(f"data[{key}]")
        elif key.startswith(".docker") and (wrong := _json_fault(data[key])):
            faults.invalid(f"data[{key}]", "<secret contents redacted>", wrong)


def _json_fault(encoded: str) -> str:
    """Why base64 of a text is not that of a JSON object (null is one, too)."""
    text = base64.b64decode(encoded or "").decode("utf-8", "replace")
    if wrong := gojson.syntax_error(text):
        return wrong
    first = text.lstrip()[0]
    if first in "{n":
        return ""
    kind = _JSON_KINDS.get(first, "number")
    return f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"


def _prepare_secret_update(new: Object, old: Object) -> None:
    keep_generation(new, old)
    new["type"] = new.get("type") or old.get("type")


def _check_secret_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    check_immutable(new.get("type"), old.get("type"), "type", faults)
    _check_fixed(new, old, ("data",), faults)
    _check_secret(new, faults)


def _secret_warnings(new: Object, _old: Object | None) -> list[str]:
    if new.get("type") != _TLS:
        return []
    data = new.get("data") or {}
    fault = key_pair_fault(data.get("tls.crt") or "", data.get("tls.key") or "")
    return [fault] if fault else []


SECRETS = ResourceDef(
    "",
    "v1",
    "Secret",
    "secrets",
    "secret",
    storage_version_hash="S6u1pOWzb84=",
    field_selectors=selectable("type"),
    columns=(NAME, Column("Type", "string", "@Secret.type", field("type")), _count("data"), AGE),
    strategy=Strategy(
        default=_default_secret,
        validate=creating(_check_secret),
        prepare_update=_prepare_secret_update,
        validate_update=updating(_check_secret_update),
        warnings=_secret_warnings,
    ),
)
