"""Questions that are put as objects and answered at once, never stored: who is this token, who am I, may he do that?

Kubelets ask for TokenReviews and SubjectAccessReviews about those who call them.
Source: Kubernetes documentation, "Authenticating" and "Authorization Overview".
"""

from __future__ import annotations

import time
from collections.abc import Callable

import orjson

from apiserver import decode, objectmeta, options
from apiserver.auth.authenticator import Authenticator
from apiserver.auth.authorizer import Authorizer, Decision
from apiserver.fieldmanager.entries import manager_name
from apiserver.fieldmanager.updates import track_create
from apiserver.registry.base import Object, Registry, ResourceDef
from apiserver.request import Request, User, WriteOptions, Written
from kubarium.machinery.errors import BadRequest, Invalid, StatusCause
from kubarium.machinery.times import format_timestamp

AUTHENTICATION, AUTHORIZATION = "authentication.k8s.io", "authorization.k8s.io"


def _review(group: str, kind: str, *, namespaced: bool = False) -> ResourceDef:
    plural = f"{kind.lower()}s"
    return ResourceDef(group, "v1", kind, plural, kind.lower(), namespaced, verbs=("create",))


REVIEWS = (
    _review(AUTHENTICATION, "SelfSubjectReview"),
    _review(AUTHENTICATION, "TokenReview"),
    _review(AUTHORIZATION, "LocalSubjectAccessReview", namespaced=True),
    _review(AUTHORIZATION, "SelfSubjectAccessReview"),
    _review(AUTHORIZATION, "SubjectAccessReview"),
)


class Reviews:
    def __init__(
        self,
        authenticator: Authenticator,
        authorizer: Authorizer,
        registry: Registry,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._registry = registry
        self._clock = clock

    def answers(self, resource: ResourceDef) -> bool:
        return resource in REVIEWS

    def create(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        """The review with its status. Raises BadRequest, Invalid."""
        options.check_write("CreateOptions", wanted)
        review, warnings = decode.decode(body, content_type, request.resource, field_validation=wanted.field_validation)
        objectmeta.match_namespace(review, request.resource, request.namespace)
        manager = manager_name(wanted.field_manager, wanted.user_agent)
        track_create(request.resource, review, manager, format_timestamp(self._clock()))
        spec = review.get("spec") or {}
        match request.resource.kind:
            case "TokenReview":
                review["status"] = self._token(spec)
            case "SelfSubjectReview":
                review["metadata"]["creationTimestamp"] = format_timestamp(self._clock())
                review["status"] = {"userInfo": shown(request.user)}
            case "SelfSubjectAccessReview":
                review["status"] = self._access(request, request.user, spec)
            case _:
                check_subject(request, spec)
                review["status"] = self._access(request, subject(spec), spec)
        return Written(orjson.dumps(review), created=True, warnings=tuple(warnings))

    def _token(self, spec: Object) -> Object:
        token, audiences = spec.get("token", ""), spec.get("audiences") or ()
        if not token:
            raise BadRequest("token is required for TokenReview in authentication")
        user = self._authenticator.user_of_token(token, audiences)
        if user is None:
            return {"error": "invalid bearer token", "user": {}}
        status: Object = {"authenticated": True, "user": shown(user)}
        good_for = [one for one in audiences if self._authenticator.user_of_token(token, (one,)) is not None]
        return status | {"audiences": good_for} if audiences else status

    def _access(self, request: Request, user: User, spec: Object) -> Object:
        check_attributes(request, spec)
        decision = self._decide(user, spec)
        status: Object = {"allowed": decision.allowed}
        return status | {"reason": decision.reason} if decision.reason else status

    def _decide(self, user: User, spec: Object) -> Decision:
        if path := spec.get("nonResourceAttributes"):
            return self._authorizer.authorize_path(user, path.get("verb", ""), path.get("path", ""))
        asked = spec["resourceAttributes"]
        group, version, plural = (asked.get(name, "") for name in ("group", "version", "resource"))
        resource = self._registry.get(group, version or "v1", plural) or ResourceDef(group, version, "", plural, "")
        call = Request(
            user,
            asked.get("verb", ""),
            resource,
            asked.get("namespace", ""),
            asked.get("name", ""),
            asked.get("subresource", ""),
        )
        return self._authorizer.authorize(call)


def check_attributes(request: Request, spec: Object) -> None:
    """One question, not two, not none."""
    has = [name for name in ("resourceAttributes", "nonResourceAttributes") if spec.get(name) is not None]
    if len(has) == 1:
        return
    if has:
        text = "Invalid value: cannot be specified in combination with resourceAttributes"
        cause = StatusCause("FieldValueInvalid", text, "spec.nonResourceAttributes")
    else:
        text = "Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified"
        cause = StatusCause("FieldValueInvalid", text, "spec.resourceAttributes")
    raise Invalid.of(AUTHORIZATION, request.resource.kind, "", [cause])


def check_subject(request: Request, spec: Object) -> None:
    if not spec.get("user") and not spec.get("groups"):
        text = 'Invalid value: "": at least one of user or group must be specified'
        raise Invalid.of(
            AUTHORIZATION, request.resource.kind, "", [StatusCause("FieldValueInvalid", text, "spec.user")]
        )


def subject(spec: Object) -> User:
    extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)


def shown(user: User) -> Object:
    """A UserInfo; what is empty is left out."""
    found = {
        "username": user.name,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": {key: list(values) for key, values in user.extra.items()},
    }
    return {key: value for key, value in found.items() if value}
