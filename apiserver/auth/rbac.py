"""The RBAC authorizer: what the roles that are bound to a user allow.

Bindings and roles are followed through the watch cache and compiled per user and question, once: in the steady state a
decision is one look-up. Any change of an RBAC object forgets all answers.
Source: Kubernetes documentation, "Using RBAC Authorization"; reasons as kubernetes/pkg/registry/rbac/validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import orjson

from apiserver.auth.changes import Changes
from apiserver.auth.decision import NO_OPINION, Decision
from apiserver.auth.rules import Rule, parse_rules
from apiserver.registry.base import Object
from apiserver.registry.faults import quoted
from apiserver.registry.rbac import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    GROUP,
    ROLE,
    ROLEBINDINGS,
    ROLES,
    SERVICE_ACCOUNT,
    SUBJECT_GROUP,
    USER,
)
from apiserver.request import User
from apiserver.watchcache import Entry, WatchCache
from kubarium.machinery.accounttokens import PREFIX

ANSWERS = 20_000  # kept at most; a question is of about 300 bytes
LONGEST = 256  # characters of each part of a question whose answer is kept: anybody may ask with a megabyte

Subject = tuple[str, str]
"""("User" or "Group", name); a ServiceAccount is the user that it stands for."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one subject of a binding gets: the rules of a role, by its key."""

    order: int  # of the subject in its binding
    told: str
    role: str
    unknown: str  # what is said where the role is not there


@dataclass(frozen=True, slots=True)
class Answer:
    """To a question that leaves out the object's name: `always` where the name does not matter."""

    always: Decision | None
    by_name: Mapping[str, Decision]
    otherwise: Decision


class Bindings:
    """Who is given what: (namespace or "", subject) -> binding's key -> grant."""

    def __init__(self) -> None:
        self._grants: dict[tuple[str, Subject], dict[str, Grant]] = {}
        self._places: dict[str, tuple[tuple[str, Subject], ...]] = {}  # binding's key -> where its grants are

    def put(self, key: str, binding: Object | None) -> None:
        """`binding` None: it is gone."""
        for place in self._places.pop(key, ()):
            grants = self._grants[place]
            del grants[key]
            if not grants:
                del self._grants[place]
        if binding is None:
            return
        found: dict[tuple[str, Subject], Grant] = {}
        for place, grant in grants_of(binding):
            found.setdefault(place, grant)
        self._places[key] = tuple(found)
        for place, grant in found.items():
            self._grants.setdefault(place, {})[key] = grant

    def of(self, namespace: str, user: User) -> list[Grant]:
        """Each binding once, by the first of its subjects that fits; in the order of the bindings' names."""
        found: dict[str, Grant] = {}
        for subject in ((USER, user.name), *((SUBJECT_GROUP, group) for group in user.groups)):
            for key, grant in self._grants.get((namespace, subject), {}).items():
                if key not in found or grant.order < found[key].order:
                    found[key] = grant
        return [found[key] for key in sorted(found)]


def grants_of(binding: Object) -> Iterator[tuple[tuple[str, Subject], Grant]]:
    """A ClusterRoleBinding's place is the namespace ""."""
    metadata, ref = binding["metadata"], binding["roleRef"]
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    shown, kind = (f"{name}/{namespace}", "RoleBinding") if namespace else (name, "ClusterRoleBinding")
    told = f"{kind} {quoted(shown)} of {ref['kind']} {quoted(ref['name'])} to "
    role = ROLES.key(namespace, ref["name"]) if ref["kind"] == ROLE else CLUSTERROLES.key("", ref["name"])
    unknown = f"{ref['kind'].lower()}.{GROUP} {quoted(ref['name'])} not found"
    for order, subject in enumerate(binding.get("subjects") or ()):
        who, named = subject.get("kind", ""), subject.get("name", "")
        if who == SERVICE_ACCOUNT:
            home = subject.get("namespace") or namespace
            text, place = quoted(f"{named}/{home}"), (USER, f"{PREFIX}{home}:{named}")
        else:
            text, place = quoted(named), (who, named)
        yield (namespace, place), Grant(order, f"{told}{who} {text}", role, unknown)


class Rbac:
    """Answers questions about users. All of it runs on the event loop and waits for nothing."""

    def __init__(self, cache: WatchCache) -> None:
        self._answers: dict[tuple[object, ...], Answer] = {}
        self._roles: dict[str, tuple[Rule, ...]] = {}
        self._bindings = Bindings()
        self._known: set[str] = set()  # keys of all that is taken
        self._stale = True
        kinds = (CLUSTERROLES, ROLES, CLUSTERROLEBINDINGS, ROLEBINDINGS)
        self._followed = [(kind.key(), Changes(cache, kind.key(), self._changed)) for kind in kinds]

    def _changed(self) -> None:
        self._stale = True

    def authorize(
        self, user: User, verb: str, group: str, resource: str, subresource: str, namespace: str, name: str
    ) -> Decision:
        """Of a call on a resource; `name` "" where the call names no object (create, list)."""
        if self._stale:
            self._refresh()
        key = (user.name, user.groups, verb, group, resource, subresource, namespace)
        answer = self._answers.get(key)
        if answer is None:
            answer = self._keep(key, self._answer(user, verb, group, resource, subresource, namespace))
        return answer.always or answer.by_name.get(name, answer.otherwise)

    def authorize_path(self, user: User, verb: str, path: str) -> Decision:
        """Of a call on a path that names no resource."""
        if self._stale:
            self._refresh()
        key = (user.name, user.groups, verb, path)
        answer = self._answers.get(key)
        if answer is None:
            answer = self._keep(key, self._answer_path(user, verb, path))
        return answer.always or answer.otherwise

    def rules_of(self, user: User, namespace: str) -> tuple[list[Rule], list[str]]:
        """All that a user may do in a namespace and everywhere, and what could not be found out."""
        rules: list[Rule] = []
        unknown = []
        for grant, found in self._granted(user, namespace):
            if found is None:
                unknown.append(grant.unknown)
            rules += found or ()
        return rules, unknown

    def rules_of_role(self, kind: str, namespace: str, name: str) -> tuple[Rule, ...] | None:
        """`kind`: Role or ClusterRole. None where there is no such role."""
        if self._stale:
            self._refresh()
        return self._roles.get(ROLES.key(namespace, name) if kind == ROLE else CLUSTERROLES.key("", name))

    # -- behind the answers --------------------------------------------------------------------------------------------

    def _keep(self, key: tuple[object, ...], answer: Answer) -> Answer:
        if all(len(part) <= LONGEST for part in key if isinstance(part, str)):
            if len(self._answers) >= ANSWERS:
                self._answers.clear()
            self._answers[key] = answer
        return answer

    def _granted(self, user: User, namespace: str) -> Iterator[tuple[Grant, tuple[Rule, ...] | None]]:
        """Grants with the rules of their roles, None where a role is not there."""
        if self._stale:
            self._refresh()
        for place in ("", namespace) if namespace else ("",):
            for grant in self._bindings.of(place, user):
                yield grant, self._roles.get(grant.role)

    def _answer(self, user: User, verb: str, group: str, resource: str, subresource: str, namespace: str) -> Answer:
        by_name: dict[str, Decision] = {}
        unknown = []
        for grant, rules in self._granted(user, namespace):
            if rules is None:
                unknown.append(grant.unknown)
            for rule in rules or ():
                if not rule.allows(verb, group, resource, subresource):
                    continue
                yes = Decision(True, f"RBAC: allowed by {grant.told}")
                if not rule.names:
                    return Answer(None if by_name else yes, by_name, yes)
                for name in rule.names:
                    by_name.setdefault(name, yes)
        return Answer(None, by_name, denied(unknown))

    def _answer_path(self, user: User, verb: str, path: str) -> Answer:
        unknown = []
        for grant, rules in self._granted(user, ""):
            if rules is None:
                unknown.append(grant.unknown)
            elif any(rule.allows_path(verb, path) for rule in rules):
                return Answer(Decision(True, f"RBAC: allowed by {grant.told}"), {}, NO_OPINION)
        return Answer(None, {}, denied(unknown))

    def _refresh(self) -> None:
        self._stale = False
        self._answers.clear()
        for prefix, changes in self._followed:
            if changes.dirty:
                for key, entry in changes.take(partial(self._reset, prefix)):
                    self._take(key, entry)

    def _reset(self, prefix: str) -> None:
        for key in [key for key in self._known if key.startswith(prefix)]:
            self._take(key, None)

    def _take(self, key: str, entry: Entry | None) -> None:
        obj: Object | None = orjson.loads(entry.data) if entry else None
        (self._known.discard if obj is None else self._known.add)(key)
        if key.startswith(_BINDINGS):
            self._bindings.put(key, obj)
        elif obj is None:
            self._roles.pop(key, None)
        else:
            self._roles[key] = parse_rules(obj.get("rules"))


_BINDINGS = (CLUSTERROLEBINDINGS.key(), ROLEBINDINGS.key())


def denied(unknown: list[str]) -> Decision:
    """No, and which roles were not there: perhaps they would have allowed it."""
    if not unknown:
        return NO_OPINION
    texts = list(dict.fromkeys(unknown))
    return Decision(False, f"RBAC: {texts[0]}" if len(texts) == 1 else f"RBAC: [{', '.join(texts)}]")
