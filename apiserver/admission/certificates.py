"""Who may approve and sign CertificateSigningRequests, and what nobody may ask for.

Source: Kubernetes documentation, admission controllers CertificateApproval, CertificateSigning and
CertificateSubjectRestriction; kubernetes/plugin/pkg/admission/certificates (rules and texts).
"""

from __future__ import annotations

import base64
import binascii

from apiserver.admission.chain import CREATE, UPDATE, Attributes, Plugin
from apiserver.auth.authorizer import Authorizer
from apiserver.auth.decision import Asked
from apiserver.registry.base import Object, ResourceDef
from apiserver.registry.faults import quoted
from apiserver.request import MASTERS_GROUP, User
from kubarium.machinery import csr

GROUP, PLURAL = "certificates.k8s.io", "certificatesigningrequests"


def is_requests(resource: ResourceDef) -> bool:
    return resource.group == GROUP and resource.plural == PLURAL


def may(authorizer: Authorizer, user: User, verb: str, signer: str) -> bool:
    """Whether a user has a verb on a signer: by its name, or on all of its domain."""
    domain = signer.partition("/")[0]
    return any(
        authorizer.decide(user, Asked(verb, GROUP, "signers", name=name)).allowed for name in (signer, f"{domain}/*")
    )


def signer_of(request: Object) -> str:
    return str((request.get("spec") or {}).get("signerName") or "")


class CertificateApproval(Plugin):
    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return is_requests(resource) and subresource == "approval" and operation == UPDATE

    async def validate(self, attributes: Attributes) -> None:
        """Of the signer that the stored request names."""
        signer = signer_of(attributes.old or {})
        if not may(self._authorizer, attributes.request.user, "approve", signer):
            raise attributes.forbidden(f"user not permitted to approve requests with signerName {quoted(signer)}")


class CertificateSigning(Plugin):
    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return is_requests(resource) and subresource == "status" and operation == UPDATE

    async def validate(self, attributes: Attributes) -> None:
        new, old = ((obj or {}).get("status") or {} for obj in (attributes.obj, attributes.old))
        fields = ("certificate", "conditions")
        if all((new.get(field) or None) == (old.get(field) or None) for field in fields):
            return
        signer = signer_of(attributes.old or {})
        if not may(self._authorizer, attributes.request.user, "sign", signer):
            raise attributes.forbidden(f"user not permitted to sign requests with signerName {quoted(signer)}")


class CertificateSubjectRestriction(Plugin):
    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return is_requests(resource) and not subresource and operation == CREATE

    async def validate(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        if signer_of(attributes.obj) != csr.API_CLIENT:
            return
        try:
            asked = parse_request(attributes.obj)
        except ValueError as err:
            raise attributes.forbidden(f"failed to parse CSR: {err}") from err
        if MASTERS_GROUP in asked.organizations:
            text = f"use of {csr.API_CLIENT} signer with system:masters group is not allowed"
            raise attributes.forbidden(text)


def parse_request(request: Object) -> csr.Requested:
    """What a CertificateSigningRequest asks for. Raises ValueError."""
    try:
        data = base64.b64decode((request.get("spec") or {}).get("request") or "")
    except binascii.Error as err:
        raise ValueError(str(err)) from err
    return csr.parse(data)
