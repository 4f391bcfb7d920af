"""The `token` subresource of ServiceAccounts: a token for whoever may ask, bound to a pod, secret or node if asked.

Source: kubernetes/pkg/registry/core/serviceaccount/storage/token.go (order and texts).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from apiserver import objectmeta, replies
from apiserver.admission.chain import CREATE, Attributes, Chain
from apiserver.auth.serviceaccounts import Binding, Lifetime, ServiceAccountTokens, TokenSubject
from apiserver.fieldmanager.updates import track_create
from apiserver.registry.base import Object, ResourceDef
from apiserver.registry.faults import Faults
from apiserver.request import Request
from apiserver.state import State, decoded
from kubarium.machinery.errors import BadRequest, Conflict, Invalid, MethodNotAllowed
from kubarium.machinery.times import format_timestamp

GROUP, KIND = "authentication.k8s.io", "TokenRequest"
TOKEN_REQUEST = ResourceDef(GROUP, "v1", KIND, "tokenrequests", "tokenrequest")
DEFAULT_S, MIN_S, MAX_S = 3600, 600, 1 << 32
# What volumes of pods ask for: such a token lives on, and its use is worth a warning from the asked time on.
WARN_ONLY_S, EXTENDED_S = 3607, 365 * 24 * 3600
BOUND_TO = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


class TokenIssuer:
    """`resources` gives the core resource of a plural."""

    def __init__(
        self,
        state: State,
        tokens: ServiceAccountTokens | None,
        resources: Callable[[str], ResourceDef],
        admission: Chain,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._tokens = tokens
        self._resources = resources
        self._admission = admission
        self._clock = clock

    async def issue(self, request: Request, review: Object, manager: str, *, dry_run: bool = False) -> Object:
        """The TokenRequest with its status filled in. Raises NotFound, Invalid, Conflict, BadRequest."""
        if self._tokens is None:
            raise MethodNotAllowed("this server issues no tokens: it has no --service-account-signing-key-file")
        now = int(self._clock())
        metadata, spec = objectmeta.metadata_of(review), review.get("spec") or {}
        review["spec"] = spec
        review.pop("status", None)
        if spec.get("expirationSeconds") is None:
            spec["expirationSeconds"] = DEFAULT_S
        track_create(TOKEN_REQUEST, review, manager, format_timestamp(now))
        for entry in metadata.get("managedFields") or ():
            entry["subresource"] = "token"
        attributes = Attributes(CREATE, request, request.name, review, None, dry_run)
        await self._admission.admit(attributes)
        match_account(metadata, request)
        account = await self._found("serviceaccounts", request.namespace, request.name)
        uid = account["metadata"]["uid"]
        if metadata.get("uid") and metadata["uid"] != uid:
            raise uid_conflict(metadata["uid"], uid, request.name)
        metadata |= {"name": request.name, "namespace": request.namespace, "uid": uid}
        metadata["creationTimestamp"] = format_timestamp(now)
        spec["audiences"] = spec.get("audiences") or list(self._tokens.audiences)
        spec.setdefault("boundObjectRef", None)
        check_lifetime(spec)
        await self._admission.validate(attributes)
        subject = await self._subject(request, uid, spec["boundObjectRef"])
        lifetime = plan_lifetime(spec, subject, self._tokens.audiences)
        token = self._tokens.issue(subject, audiences=spec["audiences"], lifetime=lifetime, now=now)
        expires = format_timestamp(now + spec["expirationSeconds"])
        review["status"] = {"token": token, "expirationTimestamp": expires}
        return review

    async def _found(self, plural: str, namespace: str, name: str) -> Object:
        resource = self._resources(plural)
        entry = await self._state.current(resource, namespace, name)
        if entry is None:
            raise replies.not_found(resource, name)
        return decoded(entry)

    async def _subject(self, request: Request, uid: str, ref: Object | None) -> TokenSubject:
        if ref is None:
            return TokenSubject(request.namespace, request.name, uid)
        kind, name = ref.get("kind", ""), ref.get("name", "")
        group, _, version = ref.get("apiVersion", "").rpartition("/")
        if group or kind not in BOUND_TO:
            raise BadRequest(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
        if not name:
            raise BadRequest("Name parameter required.")
        bound = await self._found(BOUND_TO[kind], "" if kind == "Node" else request.namespace, name)
        node = self._node_of(request, bound) if kind == "Pod" else None
        found = bound["metadata"]["uid"]
        if ref.get("uid") and ref["uid"] != found:
            text = (
                f"the UID in the bound object reference ({ref['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise Conflict(
                f'Operation cannot be fulfilled on {kind} "{name}": {text}', details={"name": name, "kind": kind}
            )
        return TokenSubject(request.namespace, request.name, uid, Binding(kind, name, found), node)

    def _node_of(self, request: Request, pod: Object) -> Binding | None:
        """The node of a pod stands in its token, too."""
        spec = pod["spec"]
        if spec.get("serviceAccountName", "") != request.name:
            text = f'cannot bind token for serviceaccount "{request.name}" to pod running with different '
            raise BadRequest(f"{text}serviceaccount name.")
        if not (name := spec.get("nodeName")):
            return None
        entry = self._state.peek(self._resources("nodes"), "", name)
        return Binding("Node", name, decoded(entry)["metadata"]["uid"] if entry else "")


def match_account(metadata: Object, request: Request) -> None:
    """Raises Invalid or BadRequest where the body names another account than the path."""
    if metadata.get("namespace") and metadata["namespace"] != request.namespace:
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
    faults = Faults()
    if metadata.get("name") and metadata["name"] != request.name:
        faults.invalid("metadata.name", metadata["name"], "must match the service account name if specified")
    if faults:
        raise Invalid.of(GROUP, KIND, request.name, faults)


def uid_conflict(asked: str, found: str, name: str) -> Conflict:
    text = f"the UID in the token request ({asked}) does not match the UID of the service account ({found})"
    details = {"name": name, "group": GROUP, "kind": KIND}
    return Conflict(f'Operation cannot be fulfilled on {KIND}.{GROUP} "{name}": {text}', details=details)


def check_lifetime(spec: Object) -> None:
    """Raises Invalid."""
    asked, faults = spec["expirationSeconds"], Faults()
    if asked < MIN_S:
        faults.invalid("spec.expirationSeconds", asked, "may not specify a duration less than 10 minutes")
    if asked > MAX_S:
        faults.invalid("spec.expirationSeconds", asked, "may not specify a duration larger than 2^32 seconds")
    if faults:
        raise Invalid.of(GROUP, KIND, "", faults)


def plan_lifetime(spec: Object, subject: TokenSubject, ours: tuple[str, ...]) -> Lifetime:
    """A client that never reads its token again goes on working for a year, where only this server is meant."""
    asked: int = spec["expirationSeconds"]
    of_pod = subject.binding is not None and subject.binding.kind == "Pod"
    if of_pod and asked == WARN_ONLY_S and set(spec["audiences"]) <= set(ours):
        return Lifetime(EXTENDED_S, asked)
    return Lifetime(asked)
