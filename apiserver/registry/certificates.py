"""CertificateSigningRequests (group certificates.k8s.io): the request, its approval and its certificate.

Who asks is written into the request by the server. The request itself never changes; its conditions are changed through
the subresources approval (Approved, Denied) and status (all others, and the certificate).
Source: Kubernetes API reference, CertificateSigningRequest v1; k8s.io/kubernetes/pkg/apis/certificates/validation.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from apiserver.registry import names, pem
from apiserver.registry.base import Column, Object, Part, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, NONE, at, field, human_duration, selectable
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_meta, check_meta_update, creating, keep_generation, updating
from apiserver.schemas import internal
from kubarium.machinery.times import format_timestamp

if TYPE_CHECKING:
    from apiserver.request import User

USAGES = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)
DECISIONS = ("Approved", "Denied")
_FINAL = (*DECISIONS, "Failed")
_STATUSES = ("False", "True", "Unknown")
_LEGACY_SIGNER = "kubernetes.io/legacy-unknown"
_MIN_S = 600
_MAX_DOMAIN, _MAX_NAME = 253, 571
_CONDITIONS, _CERTIFICATE = "status.conditions", "status.certificate"


def _prepare(obj: Object) -> None:
    obj["status"] = {}


def _sign(obj: Object, user: User) -> None:
    """Whatever the client says of itself gives way to what the server knows."""
    spec = obj["spec"]
    for key in ("username", "uid", "groups", "extra"):
        spec.pop(key, None)
    found = {
        "username": user.name,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": {key: list(values) for key, values in user.extra.items()},
    }
    spec.update({key: value for key, value in found.items() if value})


def _prepare_update(new: Object, old: Object) -> None:
    keep_generation(new, old)
    for key in ("spec", "status"):
        new[key] = old.get(key) or {}


def _conditions(obj: Object, *types: str) -> list[Object]:
    return [c for c in at(obj, _CONDITIONS, []) if not types or c.get("type") in types]


def _date_conditions(new: Object, old: Object) -> None:
    """Times that the client leaves out; a condition that was so already keeps the time of its transition."""
    now = format_timestamp(time.time())
    for condition in _conditions(new):
        condition["lastUpdateTime"] = condition.get("lastUpdateTime") or now
        if not condition.get("lastTransitionTime"):
            same = (
                was["lastTransitionTime"]
                for was in _conditions(old, condition.get("type", ""))
                if was.get("status") == condition.get("status") and was.get("lastTransitionTime")
            )
            condition["lastTransitionTime"] = next(same, now)


def _prepare_status(new: Object, old: Object) -> None:
    """Decisions stay what they are, but for being added or taken away, which is then refused."""
    keep_generation(new, old)
    new["spec"] = old.get("spec") or {}
    for kind in DECISIONS:
        now, was = _conditions(new, kind), _conditions(old, kind)
        if len(now) == len(was):
            for mine, theirs in zip(now, was, strict=True):
                mine.clear()
                mine.update(theirs)
    _date_conditions(new, old)


def _prepare_approval(new: Object, old: Object) -> None:
    keep_generation(new, old)
    _date_conditions(new, old)
    conditions = _conditions(new)
    new["spec"] = old.get("spec") or {}
    new["status"] = {k: v for k, v in (old.get("status") or {}).items() if k != "conditions"}
    if conditions:
        new["status"]["conditions"] = conditions


# --- validation


def _any_name(_name: str, _prefix: bool = False) -> list[str]:
    return []


def _check(obj: Object, old: Object | None, faults: Faults) -> None:
    """`old`: what was wrong already may stay wrong."""
    check_meta(obj, False, _any_name, faults)
    spec, was = obj.get("spec") or {}, (old or {}).get("spec") or {}
    request = spec.get("request")
    if fault := pem.request_fault(request or ""):
        faults.invalid("spec.request", request, fault)
    _check_usages(spec.get("usages") or [], was.get("usages") or [], faults)
    _check_signer(spec.get("signerName", ""), was.get("signerName", ""), faults)
    if (seconds := spec.get("expirationSeconds")) is not None and seconds < _MIN_S:
        text = "may not specify a duration less than 600 seconds (10 minutes)"
        faults.invalid("spec.expirationSeconds", seconds, text)
    _check_conditions(_conditions(obj), _conditions(old or {}), faults)
    certificate, before = at(obj, _CERTIFICATE), at(old or {}, _CERTIFICATE)
    tolerated = old is not None and (certificate == before or bool(pem.certificates_fault(before)))
    if not tolerated and (fault := pem.certificates_fault(certificate)):
        faults.invalid(_CERTIFICATE, "<certificate data>", fault)


def _check_usages(usages: list[str], was: list[str], faults: Faults) -> None:
    if not usages:
        faults.required("spec.usages")
    if not set(was) - set(USAGES):
        for i, usage in enumerate(usages):
            if usage not in USAGES:
                faults.unsupported(f"spec.usages[{i}]", usage, USAGES)
    if len(set(was)) == len(was):
        for i, usage in enumerate(usages):
            if usage in usages[:i]:
                faults.duplicate(f"spec.usages[{i}]", usage)


def _check_signer(name: str, was: str, faults: Faults) -> None:
    if name == _LEGACY_SIGNER and was != _LEGACY_SIGNER:
        faults.invalid("spec.signerName", name, "the legacy signerName is not allowed via this API version")
    else:
        check_signer_name(name, "spec.signerName", faults)


def check_signer_name(name: str, path: str, faults: Faults) -> None:
    """`example.com/some-signer`."""
    if not name:
        faults.required(path)
        return
    domain, slash, signer = name.partition("/")
    if not slash or "/" in signer:
        text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        faults.invalid(path, name, text)
        return
    if len(domain) > _MAX_DOMAIN:
        faults.too_long(path, _MAX_DOMAIN)
    for segment, check in ((domain, names.dns1123_label), (signer, names.dns1123_subdomain)):
        labels = segment.split(".")
        bad = next((label for label in labels if check(label)), None)
        if bad is not None:
            faults.each(path, segment, [f'validating label "{bad}": {text}' for text in check(bad)])
        if segment is domain and len(labels) < 2:
            faults.invalid(path, domain, "should be a domain with at least two segments separated by dots")
    if len(name) > _MAX_NAME:
        faults.too_long(path, _MAX_NAME)


def _check_conditions(conditions: list[Object], was: list[Object], faults: Faults) -> None:
    before = [c.get("type", "") for c in was]
    both_before, twice_before = set(before).issuperset(DECISIONS), len(set(before)) < len(before)
    seen: list[str] = []
    for i, condition in enumerate(conditions):
        kind, path = condition.get("type", ""), f"{_CONDITIONS}[{i}]"
        if not kind and "" not in before:
            faults.required(f"{path}.type")
        allowed = ("True",) if kind in _FINAL else _STATUSES
        if not (status := condition.get("status", "")):
            faults.required(f"{path}.status")
        elif status not in allowed:
            faults.unsupported(f"{path}.status", status, allowed)
        others = set(DECISIONS) - {kind}
        if kind in DECISIONS and not both_before and others & set(seen):
            faults.invalid(_CONDITIONS, kind, "Approved and Denied conditions are mutually exclusive")
        if kind in seen and not twice_before:
            faults.duplicate(f"{path}.type", kind)
        seen.append(kind)


def _check_new(obj: Object, faults: Faults) -> None:
    _check(obj, None, faults)


def _check_change(new: Object, old: Object, faults: Faults, *, decides: bool = False, issues: bool = False) -> None:
    """`decides`: conditions Approved and Denied may change; `issues`: a certificate may be set."""
    _check(new, old, faults)
    for kind in _FINAL:
        if len(_conditions(new, kind)) < len(_conditions(old, kind)):
            faults.forbidden(_CONDITIONS, f'updates may not remove a condition of type "{kind}"')
    for kind in () if decides else DECISIONS:
        now, was = _conditions(new, kind), _conditions(old, kind)
        if len(now) > len(was):
            faults.forbidden(_CONDITIONS, f'updates may not add a condition of type "{kind}"')
        elif len(now) == len(was) and now != was:
            changes = internal.difference("[]certificates.v1.CertificateSigningRequestCondition", was, now)
            faults.forbidden(_CONDITIONS, f'updates may not modify a condition of type "{kind}"\n{changes}')
    certificate, before = at(new, _CERTIFICATE), at(old, _CERTIFICATE)
    if certificate != before:
        if not issues:
            faults.forbidden(_CERTIFICATE, "updates may not set certificate content")
        elif before:
            faults.forbidden(_CERTIFICATE, "updates may not modify existing certificate content")
    check_meta_update(new, old, faults)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    _check_change(new, old, faults)


def _check_status(new: Object, old: Object, faults: Faults) -> None:
    _check_change(new, old, faults, issues=True)


def _check_approval(new: Object, old: Object, faults: Faults) -> None:
    _check_change(new, old, faults, decides=True)


# --- columns; their texts are those of the first version of the API

_SIGNER_TEXT = """\
Requested signer for the request. It is a qualified name in the form: `scope-hostname.io/name`. If empty, it will be \
defaulted:
 1. If it's a kubelet client certificate, it is assigned
    "kubernetes.io/kube-apiserver-client-kubelet".
 2. If it's a kubelet serving certificate, it is assigned
    "kubernetes.io/kubelet-serving".
 3. Otherwise, it is assigned "kubernetes.io/legacy-unknown".
Distribution of trust for signers happens out of band. You can select on this field using `spec.signerName`."""


def _duration(obj: Object, _now: float) -> str:
    seconds = at(obj, "spec.expirationSeconds", None)
    return NONE if seconds is None else human_duration(seconds)


def _condition(obj: Object, _now: float) -> str:
    """`Pending`, `Approved,Issued`, `Denied`, `Approved,Failed`."""
    found = {c.get("type") for c in _conditions(obj)}
    parts = ["Denied" if "Denied" in found else "Approved" if "Approved" in found else "Pending"]
    parts += ["Failed"] if "Failed" in found else []
    return ",".join([*parts, "Issued"] if at(obj, _CERTIFICATE) else parts)


CERTIFICATESIGNINGREQUESTS = ResourceDef(
    "certificates.k8s.io",
    "v1",
    "CertificateSigningRequest",
    "certificatesigningrequests",
    "certificatesigningrequest",
    namespaced=False,
    short_names=("csr",),
    subresources=("approval", "status"),
    storage_version_hash="95fRKMXA+00=",
    field_selectors=selectable("spec.signerName"),
    columns=(
        NAME,
        AGE,
        Column(
            "SignerName",
            "string",
            _SIGNER_TEXT,
            lambda o, _: at(o, "spec.signerName") or NONE,
        ),
        Column("Requestor", "string", "Base64-encoded PKCS#10 CSR data", field("spec.username")),
        Column("RequestedDuration", "string", "@CertificateSigningRequestSpec.expirationSeconds", _duration),
        Column("Condition", "string", "Conditions applied to the request, such as approval or denial.", _condition),
    ),
    strategy=Strategy(
        prepare_create=_prepare,
        sign=_sign,
        validate=creating(_check_new),
        prepare_update=_prepare_update,
        validate_update=updating(_check_update, namespaced=False),
        prepare_status_update=_prepare_status,
        validate_status_update=updating(_check_status, namespaced=False),
        parts={"approval": Part(_prepare_approval, updating(_check_approval, namespaced=False))},
    ),
)
