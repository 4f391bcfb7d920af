"""CertificateSigningRequests as their controllers see them, and when they are over.

Source: kubernetes/pkg/controller/certificates/cleaner (times).
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from kubarium.machinery import csr
from kubarium.machinery.objects import ObjectKey, ObjectMeta, wire_name
from kubarium.machinery.resources import Resource
from kubarium.machinery.times import parse_timestamp

APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"
HOUR_S = 3600.0


class _View(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, rename=wire_name):
    """As the views of kubarium.machinery.objects."""


class Condition(_View, frozen=True, kw_only=True):
    type: str = ""
    status: str = ""
    last_update_time: str = ""


class RequestSpec(_View, frozen=True, kw_only=True):
    request: str = ""  # base64 of PEM
    signer_name: str = ""
    expiration_seconds: int | None = None
    usages: tuple[str, ...] = ()
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class RequestStatus(_View, frozen=True, kw_only=True):
    conditions: tuple[Condition, ...] = ()
    certificate: str = ""


class SigningRequest(_View, frozen=True, kw_only=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: RequestSpec = RequestSpec()
    status: RequestStatus = RequestStatus()

    @property
    def key(self) -> ObjectKey:
        return ObjectKey("", self.metadata.name)

    def has(self, kind: str) -> bool:
        return any(condition.type == kind for condition in self.status.conditions)

    def asked(self) -> csr.Requested:
        """Raises ValueError."""
        try:
            return csr.parse(base64.b64decode(self.spec.request))
        except binascii.Error as err:
            raise ValueError(str(err)) from err


REQUESTS = Resource(
    "certificates.k8s.io",
    "v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
    SigningRequest,
    namespaced=False,
)


def is_over(request: SigningRequest, now: float) -> bool:
    """Decided requests stay for an hour, others for a day, none longer than its certificate."""
    conditions, issued = request.status.conditions, bool(request.status.certificate)
    if not conditions:
        return _older(request.metadata.creation_timestamp, 24 * HOUR_S, now)
    for condition in conditions:
        if condition.type in (DENIED, FAILED) and _older(condition.last_update_time, HOUR_S, now):
            return True
        if condition.type == APPROVED:
            limit_s = HOUR_S if issued else 24 * HOUR_S
            if _older(condition.last_update_time, limit_s, now) or (issued and is_expired(request, now)):
                return True
    return False


def _older(timestamp: str, seconds: float, now: float) -> bool:
    return (since := parse_timestamp(timestamp)) is not None and now - since > seconds


def is_expired(request: SigningRequest, now: float) -> bool:
    """Whether the certificate's time is over; what is none never expires."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(base64.b64decode(request.status.certificate))
    except ValueError:
        return False
    return certificate.not_valid_after_utc.timestamp() < now
