"""Acting as somebody else: which user the headers name, and whether the caller may be him.

The constrained modes (KEP-5284) come first: there a caller must be allowed both to be that user and to do this very
call as him (`impersonate-on:MODE:VERB`). Then the old verb `impersonate`, with which he may do whatever that user may.
Source: Kubernetes documentation, "User impersonation"; k8s.io/apiserver/pkg/endpoints/filters/impersonation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

from apiserver.auth.authorizer import Authorizer, call, refused
from apiserver.auth.decision import Asked, Decision
from apiserver.auth.node import NODE_PREFIX, NODES_GROUP
from apiserver.registry.faults import quoted
from apiserver.registry.names import dns1123_subdomain, name_is_label, name_is_subdomain
from apiserver.request import ANONYMOUS, AUTHENTICATED_GROUP, MASTERS_GROUP, UNAUTHENTICATED_GROUP, User
from kubarium.machinery.accounttokens import PREFIX
from kubarium.machinery.errors import BadRequest, Forbidden

HEADER = b"impersonate-"
EXTRA = "impersonate-extra-"
NODE_NAME = "authentication.kubernetes.io/node-name"
GROUP = "authentication.k8s.io"
MANY = 4  # so many values are asked about at once first
REMEMBERED = 10_000

Headers = Callable[[str], Sequence[str]]
Judge = Callable[[User, str], Forbidden | None]
"""(who asks, verb with MODE: in front) -> the refusal of the very call that is made, None where it is allowed."""


def wanted_user(names: Sequence[str], values: Headers) -> User | None:
    """The user as the headers name him, nothing added; None without such headers. `names` are in lower case.

    Raises BadRequest where they name all but the user.
    """
    name, uid = (next(iter(values(f"impersonate-{part}")), "") for part in ("user", "uid"))
    groups = tuple(values("impersonate-group"))
    extra: dict[str, tuple[str, ...]] = {}
    for header in names:
        if header.startswith(EXTRA):
            key = unquote(header[len(EXTRA) :])
            extra[key] = (*extra.get(key, ()), *values(header))
    user = User(name, groups, uid, extra)
    if name:
        return user
    if uid or groups or extra:
        raise BadRequest(f"requested {go_user(user)} without impersonating a user name")
    return None


def go_user(user: User) -> str:
    """As Go prints it with %#v."""
    groups = f"{{{', '.join(map(quoted, user.groups))}}}" if user.groups else "(nil)"
    extra = ", ".join(
        f"{quoted(key)}:[]string{{{', '.join(map(quoted, values))}}}" for key, values in sorted(user.extra.items())
    )
    shown = f"{{{extra}}}" if extra else "(nil)"
    return (
        f"&user.DefaultInfo{{Name:{quoted(user.name)}, UID:{quoted(user.uid)}, Groups:[]string{groups}, "
        f"Extra:map[string][]string{shown}}}"
    )


@dataclass(frozen=True, slots=True)
class Mode:
    """`fits`: whether a caller may try to be such a user in this mode."""

    name: str  # "" is the old one
    fits: Callable[[User, User], bool]

    @property
    def verb(self) -> str:
        return f"impersonate:{self.name}" if self.name else "impersonate"


def node_name(user: str) -> str:
    """Of a node's user, "" of all others."""
    name = user.removeprefix(NODE_PREFIX) if user.startswith(NODE_PREFIX) else ""
    return "" if not name or name_is_subdomain(name) else name


def account_of(user: str) -> tuple[str, str] | None:
    """Namespace and name of the ServiceAccount that a user is."""
    if not user.startswith(PREFIX):
        return None
    namespace, colon, name = user[len(PREFIX) :].partition(":")
    if not colon or name_is_label(namespace) or name_is_subdomain(name):
        return None
    return namespace, name


def _name_only(user: User) -> bool:
    return not (user.uid or user.groups or user.extra)


def _own_node(wanted: User, caller: User) -> bool:
    node = node_name(wanted.name)
    return bool(node) and account_of(caller.name) is not None and tuple(caller.extra.get(NODE_NAME, ())) == (node,)


MODES = (
    Mode("associated-node", lambda wanted, caller: _name_only(wanted) and _own_node(wanted, caller)),
    Mode("arbitrary-node", lambda wanted, _: _name_only(wanted) and bool(node_name(wanted.name))),
    Mode("serviceaccount", lambda wanted, _: _name_only(wanted) and account_of(wanted.name) is not None),
    Mode("user-info", lambda wanted, _: not node_name(wanted.name) and account_of(wanted.name) is None),
    Mode("", lambda _wanted, _caller: True),
)


class Impersonation:
    """Remembers in which mode a caller was last let through: that one is tried first."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer
        self._last: dict[str, Mode] = {}

    def user(self, caller: User, wanted: User, judge: Judge) -> User:
        """Who the caller is from now on. Raises Forbidden, with what was wrong in the first mode that was tried."""
        last = self._last.get(caller.name)
        first: Forbidden | None = None
        for mode in MODES if last is None else (last, *(mode for mode in MODES if mode is not last)):
            if not mode.fits(wanted, caller):
                continue
            try:
                found = self._in_mode(mode, caller, wanted, judge)
            except Forbidden as err:
                first = first or err
                continue
            if len(self._last) >= REMEMBERED:
                self._last.clear()
            self._last[caller.name] = mode
            return found
        assert first is not None  # the last mode fits everybody
        raise first

    def _in_mode(self, mode: Mode, caller: User, wanted: User, judge: Judge) -> User:
        if mode.name and (refusal := judge(caller, f"impersonate-on:{mode.name}:")) is not None:
            raise refusal
        self._check(caller, self._name_asked(mode, wanted))
        if wanted.uid:
            self._check(caller, Asked(mode.verb, GROUP, "uids", name=wanted.uid))
        self._check_groups(mode, caller, wanted.groups)
        self._check_extra(mode, caller, wanted.extra)
        return replace(wanted, groups=groups_of(mode, wanted))

    def _name_asked(self, mode: Mode, wanted: User) -> Asked:
        group = GROUP if mode.name else ""
        if mode.name and (node := node_name(wanted.name)):
            return Asked(mode.verb, group, "nodes", name="*" if mode.name == "associated-node" else node)
        if (account := account_of(wanted.name)) is not None:
            return Asked(mode.verb, group, "serviceaccounts", namespace=account[0], name=account[1])
        return Asked(mode.verb, group, "users", name=wanted.name)

    def _check_groups(self, mode: Mode, caller: User, groups: Sequence[str]) -> None:
        asked = Asked(mode.verb, GROUP if mode.name else "", "groups")
        if mode.name and "" in groups:
            raise self._refused(caller, asked, "impersonating the empty string group is not allowed")
        if mode.name and MASTERS_GROUP in groups:
            text = "impersonating the system:masters group is not allowed"
            raise self._refused(caller, replace(asked, name=MASTERS_GROUP), text)
        if mode.name and len(groups) >= MANY and self._decide(caller, replace(asked, name="*")).allowed:
            return
        for group in groups:
            self._check(caller, replace(asked, name=group))

    def _check_extra(self, mode: Mode, caller: User, extra: Mapping[str, Sequence[str]]) -> None:
        asked = Asked(mode.verb, GROUP, "userextras")
        if mode.name and (fault := next(extra_faults(extra), "")):
            raise self._refused(caller, asked, fault)
        many = len(extra) >= MANY or sum(map(len, extra.values())) >= MANY
        if mode.name and many and self._decide(caller, replace(asked, subresource="*", name="*")).allowed:
            return
        for key, values in extra.items():
            for value in values:
                self._check(caller, replace(asked, subresource=key, name=value))

    def _decide(self, caller: User, asked: Asked) -> Decision:
        return self._authorizer.decide(caller, asked)

    def _check(self, caller: User, asked: Asked) -> None:
        decision = self._decide(caller, asked)
        if not decision.allowed:
            raise self._refused(caller, asked, decision.reason)

    def _refused(self, caller: User, asked: Asked, reason: str) -> Forbidden:
        where = {"namespace": asked.namespace, "name": asked.name, "subresource": asked.subresource}
        return refused(call(caller, asked.verb, asked.group, asked.resource, **where), reason)


def groups_of(mode: Mode, wanted: User) -> tuple[str, ...]:
    """Of the user that a caller becomes: those that were asked for, else those that such a user always has."""
    groups = list(wanted.groups)
    if mode.name and node_name(wanted.name):
        groups = [NODES_GROUP]
    elif not groups and (account := account_of(wanted.name)) is not None:
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{account[0]}"]
    if wanted.name == ANONYMOUS:
        added = UNAUTHENTICATED_GROUP
    elif UNAUTHENTICATED_GROUP in groups:
        return tuple(groups)
    else:
        added = AUTHENTICATED_GROUP
    return tuple(groups if added in groups else [*groups, added])


def extra_faults(extra: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What the constrained modes do not take."""
    for key, values in extra.items():
        if not key:
            yield "impersonating the empty string key in extra is not allowed"
        elif faults := key_faults(key):
            yield f"impersonating an invalid key in extra is not allowed: {faults}"
        if key != key.lower():
            yield f"impersonating a non-lowercase key in extra is not allowed: {quoted(key)}"
        if "" in values:
            yield "impersonating the empty string value in extra is not allowed"


def key_faults(key: str) -> str:
    """A key is DOMAIN/PATH."""
    domain, slash, path = key.partition("/")
    if not slash or not domain or not path:
        text = 'must be a domain-prefixed path (such as "acme.io/foo")'
        return f"extra.key: Invalid value: {quoted(key)}: {text}"
    faults = [f"extra.key: Invalid value: {quoted(domain)}: {text}" for text in dns1123_subdomain(domain)]
    if not _path(path):
        text = f"Invalid path (regex used for validation is '{_PATH}')"
        faults.append(f"extra.key: Invalid value: {quoted(path)}: {text}")
    return faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]" if faults else ""


_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_path = re.compile(_PATH).fullmatch
