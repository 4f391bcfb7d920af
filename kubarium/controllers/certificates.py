"""CertificateSigningRequests: kubelets' are approved, and what is approved is signed with the cluster's CA.

Source: Kubernetes documentation, "Certificate Signing Requests"; kubernetes/pkg/controller/certificates (rules, texts).
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubarium.controllers.certificateviews import (
    APPROVED,
    DENIED,
    FAILED,
    HOUR_S,
    REQUESTS,
    SigningRequest,
    is_over,
)
from kubarium.controllers.controller import Context, Controller
from kubarium.machinery import csr
from kubarium.machinery.errors import Conflict, NotFound
from kubarium.machinery.objects import ObjectKey, ObjectMeta
from kubarium.machinery.resources import Resource
from kubarium.machinery.times import format_timestamp

if TYPE_CHECKING:
    from kubarium.machinery.pki import Ca

MIN_S = 600
CLEAN_EVERY_S = HOUR_S
ACCESS_REVIEWS: Resource[ObjectMeta] = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", ObjectMeta, namespaced=False
)

# -- approval ----------------------------------------------------------------------------------------------------------


def plan_reviews(request: SigningRequest, asked: csr.Requested) -> list[tuple[str, str]]:
    """(subresource that its author must be allowed to create, message of the approval), in the order to try."""
    spec = request.spec
    if spec.signer_name != csr.KUBELET_CLIENT or csr.kubelet_client_faults(asked, spec.usages):
        return []
    own = ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.")
    other = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.")
    return [own, other] if spec.username == asked.common_name else [other]


def access_review(request: SigningRequest, subresource: str) -> dict[str, Any]:
    spec = request.spec
    return {
        "spec": {
            "user": spec.username,
            "uid": spec.uid,
            "groups": list(spec.groups),
            "extra": {key: list(values) for key, values in spec.extra.items()},
            "resourceAttributes": {
                "group": REQUESTS.group,
                "resource": REQUESTS.plural,
                "verb": "create",
                "subresource": subresource,
                "version": "*",
            },
        }
    }


class _OfRequests(Controller[str]):
    """Keys are names."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.requests = context.informers.of(REQUESTS)
        self.requests.on_change(self._changed)

    def _changed(self, old: SigningRequest | None, new: SigningRequest | None) -> None:
        if new is not None:
            self.queue.add(new.metadata.name)

    async def _write(self, request: SigningRequest, subresource: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the status as it was when the request was looked at; if it no longer is, the cache will tell."""
        name = request.metadata.name
        try:
            obj = await self.api.get_raw(REQUESTS, name)
            if obj["metadata"]["resourceVersion"] == request.metadata.resource_version:
                change(obj.setdefault("status", {}))
                await self.api.update(REQUESTS, obj, subresource=subresource)
        except (Conflict, NotFound):
            return


class Approver(_OfRequests):
    name = "certificatesigningrequest-approving-controller"

    async def sync(self, name: str) -> None:
        request = self.requests.get(ObjectKey("", name))
        if request is None or request.status.certificate or request.has(APPROVED) or request.has(DENIED):
            return
        for subresource, message in plan_reviews(request, request.asked()):
            review = await self.api.create_raw(ACCESS_REVIEWS, access_review(request, subresource))
            if review["status"].get("allowed"):
                condition = {"type": APPROVED, "status": "True", "reason": "AutoApproved", "message": message}
                await self._write(request, "approval", lambda status: _add(status, condition))  # noqa: B023 (at once)
                return


def _add(status: dict[str, Any], condition: dict[str, str]) -> None:
    status["conditions"] = [*(status.get("conditions") or ()), condition]


# -- signing -----------------------------------------------------------------------------------------------------------


def plan_fault(request: SigningRequest, asked: csr.Requested) -> str | None:
    """Why it may not be signed, "" where it may, None where it names none of the signers that sign."""
    usages = request.spec.usages
    match request.spec.signer_name:
        case csr.API_CLIENT:
            return csr.client_faults(usages)
        case csr.KUBELET_CLIENT:
            return csr.kubelet_client_faults(asked, usages)
        case csr.KUBELET_SERVING:
            return csr.kubelet_serving_faults(asked, usages)
    return None


def plan_lifetime(asked_s: int | None, longest_s: float) -> timedelta:
    """What is asked for, but neither less than ten minutes nor more than the signer gives."""
    wanted = longest_s if asked_s is None else min(max(asked_s, MIN_S), longest_s)
    return timedelta(seconds=wanted)


class Signer(_OfRequests):
    """Signs with the cluster's CA for each of its signers."""

    name = "certificatesigningrequest-signing-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._ca: Ca | None = None

    def _authority(self) -> Ca:
        from kubarium.machinery import pki

        if self._ca is None:
            config = self.config
            self._ca = pki.load_ca(Path(config.cluster_signing_cert_file), Path(config.cluster_signing_key_file))
        return self._ca

    async def sync(self, name: str) -> None:
        request = self.requests.get(ObjectKey("", name))
        if request is None or request.status.certificate or not request.has(APPROVED):
            return
        if request.has(DENIED) or request.has(FAILED):
            return
        asked = request.asked()
        fault = plan_fault(request, asked)
        if fault is None:
            return
        if fault:
            condition = {"type": FAILED, "status": "True", "reason": "SignerValidationFailure", "message": fault}
            condition["lastUpdateTime"] = format_timestamp(self.clock())
            await self._write(request, "status", lambda status: _add(status, condition))
            return
        certificate = base64.b64encode(self._sign(request, asked)).decode()
        await self._write(request, "status", lambda status: status.update(certificate=certificate))

    def _sign(self, request: SigningRequest, asked: csr.Requested) -> bytes:
        from kubarium.machinery import pki

        lifetime = plan_lifetime(request.spec.expiration_seconds, self.config.cluster_signing_duration_s)
        now = datetime.fromtimestamp(self.clock(), UTC)
        return pki.sign_request(self._authority(), asked.parsed, request.spec.usages, now, lifetime)


# -- cleaning ----------------------------------------------------------------------------------------------------------


class Cleaner(_OfRequests):
    name = "certificatesigningrequest-cleaner-controller"
    workers = 1

    async def sync(self, name: str) -> None:
        request = self.requests.get(ObjectKey("", name))
        if request is None:
            return
        if not is_over(request, self.clock()):
            self.queue.add_after(name, CLEAN_EVERY_S)
            return
        try:
            await self.api.delete(REQUESTS, name, uid=request.metadata.uid)
        except (Conflict, NotFound):
            return
