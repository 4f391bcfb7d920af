"""JSONPath templates give what kubectl's documentation says."""

from __future__ import annotations

from typing import Any

import pytest

from kubarium.cli import jsonpath
from kubarium.cli.run import UsageError

NODES: dict[str, Any] = {
    "kind": "List",
    "items": [
        {
            "kind": "None",
            "metadata": {"name": "127.0.0.1", "labels": {"kubernetes.io/hostname": "127.0.0.1"}},
            "status": {
                "capacity": {"cpu": "4"},
                "ready": True,
                "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.1"}],
            },
        },
        {
            "kind": "None",
            "metadata": {"name": "127.0.0.2"},
            "status": {
                "capacity": {"cpu": "8"},
                "ready": False,
                "addresses": [
                    {"type": "LegacyHostIP", "address": "127.0.0.2"},
                    {"type": "another", "address": "127.0.0.3"},
                ],
            },
        },
    ],
    "users": [
        {"name": "myself", "user": {}},
        {"name": "e2e", "user": {"username": "admin", "password": "secret"}, "count": 3},
    ],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("kind is {.kind}", "kind is List"),
        ("{$.kind}", "List"),
        ("{@.kind}", "List"),
        ("{['kind']}", "List"),
        ("{..name}", "127.0.0.1 127.0.0.2 myself e2e"),
        ("{.items[*].metadata.name}", "127.0.0.1 127.0.0.2"),
        ("{.users[0].name}", "myself"),
        ("{.users[-1].name}", "e2e"),
        ("{.users[0:1].name}", "myself"),
        ("{.items[*]['metadata.name']}", ""),
        ("{.items[0]['metadata','kind']}", '{"name":"127.0.0.1","labels":{"kubernetes.io/hostname":"127.0.0.1"}} None'),
        ('{.users[?(@.name=="e2e")].user.password}', "secret"),
        ("{.users[?(@.count>2)].name}", "e2e"),
        ("{.users[?(@.count)].name}", "e2e"),
        ("{range .items[*]}[{.metadata.name}, {.status.capacity.cpu}] {end}", "[127.0.0.1, 4] [127.0.0.2, 8] "),
        ('{range .items[*]}{.metadata.name}{"\\t"}{.status.ready}{"\\n"}{end}', "127.0.0.1\ttrue\n127.0.0.2\tfalse\n"),
        ("{.items[0].metadata.labels.kubernetes\\.io/hostname}", "127.0.0.1"),
        ("{.users[1].user}", '{"username":"admin","password":"secret"}'),
        ("{.nothing}", ""),
        ("{.users[7].name}", ""),
        ("no braces", "no braces"),
        ('{.items[?(@.status.addresses[0].type=="LegacyHostIP")].metadata.name}', "127.0.0.1 127.0.0.2"),
    ],
)
def test_template(template: str, text: str) -> None:
    assert jsonpath.render(template, NODES) == text


def test_bare_expressions_are_understood_where_kubectl_does() -> None:
    assert jsonpath.values("metadata.name", NODES["items"][0]) == ["127.0.0.1"]
    assert jsonpath.values("{.metadata.name}", NODES["items"][0]) == ["127.0.0.1"]


@pytest.mark.parametrize("template", ["{.a", "{range .items[*]}x", "{.a[}", "{end}", "{.a[?(@.b==x)]}"])
def test_a_template_that_cannot_be_read_is_refused(template: str) -> None:
    with pytest.raises(UsageError, match="error parsing jsonpath"):
        jsonpath.render(template, NODES)
