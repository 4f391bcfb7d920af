"""Questions that are put as objects and answered at once, never stored: who is this token, who am I, may he do that?

Kubelets ask for TokenReviews and SubjectAccessReviews about those who call them.
Source: Kubernetes documentation, "Authenticating" and "Authorization Overview".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import orjson

from apiserver import decode, objectmeta, options
from apiserver.auth.accessreviews import SELF, check_review, question_of, subject_of
from apiserver.auth.authenticator import Authenticator
from apiserver.auth.authorizer import Authorizer
from apiserver.auth.rules import Rule
from apiserver.fieldmanager.entries import manager_name
from apiserver.fieldmanager.updates import track_create
from apiserver.registry.base import Object, ResourceDef
from apiserver.registry.faults import Faults
from apiserver.request import Request, User, WriteOptions, Written
from kubarium.machinery.errors import ApiError, BadRequest, Invalid
from kubarium.machinery.times import format_timestamp

_SYSTEM_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")
AUTHENTICATION, AUTHORIZATION = "authentication.k8s.io", "authorization.k8s.io"


def _review(group: str, kind: str, *, namespaced: bool = False) -> ResourceDef:
    plural = f"{kind.lower()}s"
    return ResourceDef(group, "v1", kind, plural, kind.lower(), namespaced, verbs=("create",))


REVIEWS = (
    _review(AUTHENTICATION, "SelfSubjectReview"),
    _review(AUTHENTICATION, "TokenReview"),
    _review(AUTHORIZATION, "LocalSubjectAccessReview", namespaced=True),
    _review(AUTHORIZATION, "SelfSubjectAccessReview"),
    _review(AUTHORIZATION, "SelfSubjectRulesReview"),
    _review(AUTHORIZATION, "SubjectAccessReview"),
)
_KNOWN = frozenset((review.group, review.plural) for review in REVIEWS)


class Reviews:
    def __init__(
        self, authenticator: Authenticator, authorizer: Authorizer, clock: Callable[[], float] = time.time
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._clock = clock

    def answers(self, resource: ResourceDef) -> bool:
        return (resource.group, resource.plural) in _KNOWN

    def create(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        """The review with its status. Raises BadRequest, Invalid."""
        options.check_write("CreateOptions", wanted)
        review, warnings = decode.decode(body, content_type, request.resource, field_validation=wanted.field_validation)
        try:
            answer = self._judge(request, review, wanted)
        except ApiError as err:
            err.warnings = (*err.warnings, *warnings)
            raise
        return Written(orjson.dumps(answer), created=True, warnings=tuple(warnings))

    def _judge(self, request: Request, review: Object, wanted: WriteOptions) -> Object:
        objectmeta.match_namespace(review, request.resource, request.namespace)
        for field in _SYSTEM_FIELDS:
            review["metadata"].pop(field, None)
        manager = manager_name(wanted.field_manager, wanted.user_agent)
        track_create(request.resource, review, manager, format_timestamp(self._clock()))
        return self._answer(request, review)

    def _answer(self, request: Request, review: Object) -> Object:
        kind, spec = request.resource.kind, review.get("spec") or {}
        blank: Object = {"kind": kind, "apiVersion": request.resource.api_version, "metadata": {}}
        match kind:
            case "TokenReview":
                return review | {"status": self._token(spec, review.get("status") or {})}
            case "SelfSubjectReview":
                blank["metadata"]["creationTimestamp"] = format_timestamp(self._clock())
                return blank | {"status": {"userInfo": shown(request.user)}}
            case "SelfSubjectRulesReview":
                return blank | {"spec": {}, "status": self._rules(request.user, spec)}
        faults = Faults()
        check_review(kind, review, faults)
        if faults:
            raise Invalid.of(AUTHORIZATION, "", "", faults)
        return review | {"status": self._access(request.user if kind == SELF else subject_of(spec), spec)}

    def _token(self, spec: Object, sent: Object) -> Object:
        """What a client has sent as the status stays where nothing is said instead, as upstream."""
        token, audiences = spec.get("token", ""), spec.get("audiences") or ()
        if not token:
            raise BadRequest("token is required for TokenReview in authentication")
        verdict = self._authenticator.judge_token(token, audiences)
        status = {key: value for key, value in sent.items() if key != "authenticated"}
        if verdict.user is None:
            error = "invalid bearer token"
            return {"user": {}, **status, "error": f"[{error}, {verdict.trouble}]" if verdict.trouble else error}
        status |= {"authenticated": True, "user": shown(verdict.user)}
        return status | ({"audiences": list(verdict.audiences)} if verdict.audiences else {})

    def _rules(self, user: User, spec: Object) -> Object:
        if not (namespace := spec.get("namespace", "")):
            raise BadRequest("no namespace on request")
        rules, trouble = self._authorizer.rules_of(user, namespace)
        status = shown_rules(rules) | {"incomplete": trouble.startswith(("node authorizer", "[node authorizer"))}
        return status | ({"evaluationError": trouble} if trouble else {})

    def _access(self, user: User, spec: Object) -> Object:
        trouble = ""
        if (path := spec.get("nonResourceAttributes")) is not None:
            decision = self._authorizer.authorize_path(user, path.get("verb", ""), path.get("path", ""))
        else:
            asked, trouble = question_of(spec["resourceAttributes"])
            decision = self._authorizer.decide(user, asked)
        status: Object = {"allowed": decision.allowed}
        if decision.reason:
            status["reason"] = decision.reason
        return status | ({"evaluationError": trouble} if trouble else {})


def shown_rules(rules: Iterable[Rule]) -> Object:
    """The lists of a SubjectRulesReviewStatus."""
    resource, other = [], []
    for rule in rules:
        if rule.resources:
            fields = {
                "verbs": rule.verbs,
                "apiGroups": rule.groups,
                "resources": rule.resources,
                "resourceNames": rule.names,
            }
            resource.append({name: values for name, values in fields.items() if values})
        if rule.paths:
            other.append({"verbs": rule.verbs, "nonResourceURLs": rule.paths})
    return {"resourceRules": resource, "nonResourceRules": other}


def shown(user: User) -> Object:
    """A UserInfo; what is empty is left out."""
    found = {
        "username": user.name,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": {key: list(values) for key, values in sorted(user.extra.items())},
    }
    return {key: value for key, value in found.items() if value}
