"""What rules allow and cover, whom bindings reach, how the default roles are kept, and who may act as somebody else."""

from __future__ import annotations

from typing import Any

import pytest

from apiserver.auth.decision import Asked, Decision
from apiserver.auth.defaults import default_objects, is_other_binding, reconciled
from apiserver.auth.impersonation import Impersonation, wanted_user
from apiserver.auth.rbac import Bindings
from apiserver.auth.rules import Rule, compact, missing, parse_rules
from apiserver.request import Request, User
from kubarium.machinery.errors import BadRequest, Forbidden

RULE = Rule(("get", "list"), ("", "apps"), ("pods", "pods/log", "*/scale"))


@pytest.mark.parametrize(
    ("rule", "call", "allowed"),
    [
        pytest.param(RULE, ("get", "", "pods", ""), True, id="named"),
        pytest.param(RULE, ("delete", "", "pods", ""), False, id="another verb"),
        pytest.param(RULE, ("get", "batch", "pods", ""), False, id="another group"),
        pytest.param(RULE, ("get", "", "pods", "log"), True, id="a subresource"),
        pytest.param(RULE, ("get", "", "pods", "exec"), False, id="another subresource"),
        pytest.param(RULE, ("get", "apps", "deployments", "scale"), True, id="a subresource of all"),
        pytest.param(RULE, ("get", "apps", "deployments", ""), False, id="which is not the resource itself"),
        pytest.param(Rule(("*",), ("*",), ("*",)), ("patch", "x.io", "y", "z"), True, id="everything"),
        pytest.param(Rule(("get",), ("",), ("pods",)), ("get", "", "*", ""), False, id="a star asked for is no star"),
    ],
)
def test_a_rule_allows(rule: Rule, call: tuple[str, str, str, str], allowed: bool) -> None:
    assert rule.allows(*call) is allowed


@pytest.mark.parametrize(
    ("paths", "path", "allowed"),
    [
        (("/healthz",), "/healthz", True),
        (("/healthz",), "/healthz/", False),
        (("/healthz/*",), "/healthz/etcd", True),
        (("/healthz/*",), "/healthz", False),
        (("*",), "/anything", True),
        (("/api*",), "/apis/apps", True),
        (("*/x",), "/a/x", False),
    ],
)
def test_a_rule_allows_paths(paths: tuple[str, ...], path: str, allowed: bool) -> None:
    assert Rule(("get",), paths=paths).allows_path("get", path) is allowed
    assert not Rule(("get",), paths=paths).allows_path("post", path)


@pytest.mark.parametrize(
    ("own", "wanted", "lacking"),
    [
        pytest.param([RULE], [Rule(("get",), ("",), ("pods", "nodes/scale"))], [], id="covered"),
        pytest.param(
            [RULE],
            [Rule(("get", "delete"), ("",), ("pods", "secrets"))],
            [
                '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}',
                '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "delete"]}',
            ],
            id="one line a resource",
        ),
        pytest.param(
            [Rule(("get",), ("",), ("pods",), ("a",))],
            [Rule(("get",), ("",), ("pods",))],
            ['{APIGroups:[""], Resources:["pods"], Verbs:["get"]}'],
            id="one object is not all of them",
        ),
        pytest.param(
            [Rule(("get",), ("",), ("pods",))], [Rule(("get",), ("",), ("pods",), ("a",))], [], id="all cover one"
        ),
        pytest.param(
            [Rule(("get",), paths=("/x/*",))],
            [Rule(("get",), paths=("/x/y", "/x", "*"))],
            ['{NonResourceURLs:["/x"], Verbs:["get"]}', '{NonResourceURLs:["*"], Verbs:["get"]}'],
            id="paths",
        ),
        pytest.param(
            [Rule(("get",), ("",), ("pods",)), Rule(("list",), ("",), ("pods",))],
            [Rule(("get", "list"), ("",), ("pods",))],
            [],
            id="covered together",
        ),
    ],
)
def test_what_rules_lack_of_others(own: list[Rule], wanted: list[Rule], lacking: list[str]) -> None:
    assert [rule.told() for rule in compact(missing(own, wanted))] == lacking


# -- bindings ----------------------------------------------------------------------------------------------------------

KEY = "/registry/rbac.authorization.k8s.io/rolebindings/shop/b"


def binding(*subjects: dict[str, str], kind: str = "Role", namespace: str = "shop") -> dict[str, Any]:
    metadata = {"name": "b", **({"namespace": namespace} if namespace else {})}
    return {"metadata": metadata, "roleRef": {"kind": kind, "name": "r"}, "subjects": list(subjects)}


@pytest.mark.parametrize(
    ("subjects", "user", "told"),
    [
        pytest.param([{"kind": "User", "name": "kim"}], User("kim"), 'User "kim"', id="a user"),
        pytest.param([{"kind": "User", "name": "kim"}], User("pat"), None, id="another user"),
        pytest.param([{"kind": "Group", "name": "ops"}], User("kim", ("ops",)), 'Group "ops"', id="a group"),
        pytest.param(
            [{"kind": "Group", "name": "ops"}, {"kind": "User", "name": "kim"}],
            User("kim", ("ops",)),
            'Group "ops"',
            id="the first that fits",
        ),
        pytest.param(
            [{"kind": "ServiceAccount", "name": "web"}],
            User("system:serviceaccount:shop:web"),
            'ServiceAccount "web/shop"',
            id="an account of the binding's namespace",
        ),
        pytest.param(
            [{"kind": "ServiceAccount", "name": "web", "namespace": "other"}],
            User("system:serviceaccount:shop:web"),
            None,
            id="an account of another namespace",
        ),
    ],
)
def test_whom_a_binding_reaches(subjects: list[dict[str, str]], user: User, told: str | None) -> None:
    bindings = Bindings()
    bindings.put(KEY, binding(*subjects))
    expected = [] if told is None else [f'RoleBinding "b/shop" of Role "r" to {told}']
    assert [grant.told for grant in bindings.of("shop", user)] == expected
    assert bindings.of("other", user) == []
    assert bindings.of("", user) == []
    bindings.put(KEY, None)
    assert bindings.of("shop", user) == []


def test_a_changed_binding_reaches_whom_it_names_now() -> None:
    bindings = Bindings()
    bindings.put(KEY, binding({"kind": "User", "name": "kim"}, {"kind": "User", "name": "kim"}))
    bindings.put(KEY, binding({"kind": "User", "name": "pat"}))
    assert bindings.of("shop", User("kim")) == []
    assert len(bindings.of("shop", User("pat"))) == 1


# -- the default roles -------------------------------------------------------------------------------------------------

DEFAULTS = {(plural, obj["metadata"]["name"]): obj for plural, obj in default_objects()}
ROLE, BINDING = DEFAULTS["clusterroles", "system:basic-user"], DEFAULTS["clusterrolebindings", "system:basic-user"]


def changed(obj: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A copy; `meta` changes metadata."""
    meta = fields.pop("meta", {})
    return {**obj, **fields, "metadata": {**obj["metadata"], **meta}}


def test_what_is_as_it_should_be_is_left_alone() -> None:
    for wanted in DEFAULTS.values():
        assert reconciled(changed(wanted), wanted) is None
        assert not is_other_binding(wanted, wanted)


def test_missing_rules_and_subjects_come_back_and_more_of_them_stay() -> None:
    extra = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
    found = reconciled(changed(ROLE, rules=[extra]), ROLE)
    assert found is not None
    assert found["rules"][0] == extra
    assert not missing(parse_rules(found["rules"]), parse_rules(ROLE["rules"]))
    other = {"kind": "User", "name": "kim"}
    found = reconciled(changed(BINDING, subjects=[other]), BINDING)
    assert found is not None
    assert found["subjects"] == [other, *BINDING["subjects"]]


def test_labels_that_somebody_changed_stay() -> None:
    found = reconciled(changed(ROLE, meta={"labels": {"a": "b"}}), ROLE)
    assert found is not None
    assert found["metadata"]["labels"] == {"kubernetes.io/bootstrapping": "rbac-defaults", "a": "b"}


def test_who_says_so_keeps_his_own_role() -> None:
    annotations = {"rbac.authorization.kubernetes.io/autoupdate": "false"}
    assert reconciled(changed(ROLE, rules=[], meta={"annotations": annotations}), ROLE) is None
    role = {**BINDING["roleRef"], "name": "another"}
    assert is_other_binding(changed(BINDING, roleRef=role), BINDING)
    assert not is_other_binding(changed(BINDING, roleRef=role, meta={"annotations": annotations}), BINDING)


# -- acting as somebody else -------------------------------------------------------------------------------------------


class Allows:
    """An authorizer that allows calls by (verb, group, resource, name)."""

    def __init__(self, *allowed: tuple[str, str, str, str]) -> None:
        self.allowed = allowed

    def decide(self, user: User, asked: Asked) -> Decision:
        resource = "/".join(filter(None, (asked.resource, asked.subresource)))
        return Decision((asked.verb, asked.group, resource, asked.name) in self.allowed)

    def authorize(self, request: Request, field_selector: str = "") -> Decision:
        raise NotImplementedError

    def authorize_path(self, user: User, verb: str, path: str) -> Decision:
        raise NotImplementedError

    def rules_of(self, user: User, namespace: str) -> tuple[list[Rule], str]:
        raise NotImplementedError


def named(**headers: str | list[str]) -> User | None:
    values = {f"impersonate-{name.replace('_', '-')}": one for name, one in headers.items()}
    lists = {name: [one] if isinstance(one, str) else one for name, one in values.items()}
    return wanted_user(list(lists), lambda name: lists.get(name, ()))


def test_headers_name_a_user() -> None:
    assert named() is None
    user = named(user="kim", group=["a", "b"], uid="u", **{"extra_acme.io%2fx": ["1", "2"]})
    assert user == User("kim", ("a", "b"), "u", {"acme.io/x": ("1", "2")})
    with pytest.raises(BadRequest, match=r'Groups:\[\]string\{"a"\}, Extra:.*\(nil\)\} without impersonating a user'):
        named(group="a")


OLD = ("impersonate", "", "users", "kim")
AUTHENTICATION = "authentication.k8s.io"


@pytest.mark.parametrize(
    ("wanted", "allowed", "groups"),
    [
        pytest.param(User("kim"), [OLD], ("system:authenticated",), id="a user"),
        pytest.param(
            User("kim", ("ops",)),
            [OLD, ("impersonate", "", "groups", "ops")],
            ("ops", "system:authenticated"),
            id="of a group",
        ),
        pytest.param(User("kim", ("ops",)), [OLD], None, id="of a group that is not allowed"),
        pytest.param(
            User("kim", (), "", {"scopes": ("x",)}),
            [OLD, ("impersonate", AUTHENTICATION, "userextras/scopes", "x")],
            ("system:authenticated",),
            id="with extra",
        ),
        pytest.param(User("kim", (), "u1"), [OLD], None, id="with a uid that is not allowed"),
        pytest.param(
            User("system:serviceaccount:shop:web"),
            [("impersonate", "", "serviceaccounts", "web")],
            ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"),
            id="an account",
        ),
        pytest.param(
            User("system:anonymous"),
            [("impersonate", "", "users", "system:anonymous")],
            ("system:unauthenticated",),
            id="nobody",
        ),
        pytest.param(
            User("system:node:n1"),
            [("impersonate:arbitrary-node", AUTHENTICATION, "nodes", "n1")],
            None,
            id="a node, but not for this call",
        ),
    ],
)
def test_who_may_act_as_whom(
    wanted: User, allowed: list[tuple[str, str, str, str]], groups: tuple[str, ...] | None
) -> None:
    impersonation = Impersonation(Allows(*allowed))

    def judge(_: User, prefix: str) -> Forbidden | None:
        return Forbidden(f"may not {prefix}")

    if groups is None:
        with pytest.raises(Forbidden):
            impersonation.user(User("boss"), wanted, judge)
    else:
        assert impersonation.user(User("boss"), wanted, judge).groups == groups


def test_a_node_may_be_acted_as_for_one_kind_of_call() -> None:
    impersonation = Impersonation(Allows(("impersonate:arbitrary-node", AUTHENTICATION, "nodes", "n1")))
    asked: list[str] = []

    def judge(_: User, prefix: str) -> Forbidden | None:
        asked.append(prefix)
        return None

    user = impersonation.user(User("agent"), User("system:node:n1"), judge)
    assert user.groups == ("system:nodes", "system:authenticated")
    assert asked == ["impersonate-on:arbitrary-node:"]
