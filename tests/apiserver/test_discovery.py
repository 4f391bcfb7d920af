"""Discovery, in both forms, from one table."""

from __future__ import annotations

from apiserver import discovery
from apiserver.registry import REGISTRY


def test_legacy_resource_list() -> None:
    found = discovery.legacy(REGISTRY, "/apis/apps/v1")
    assert found is not None
    by_name = {r["name"]: r for r in found["resources"]}
    assert by_name["deployments"] == {
        "name": "deployments",
        "singularName": "deployment",
        "namespaced": True,
        "kind": "Deployment",
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "shortNames": ["deploy"],
        "categories": ["all"],
        "storageVersionHash": "8aSe+NMegvE=",
    }
    assert by_name["deployments/scale"] == {
        "name": "deployments/scale",
        "singularName": "",
        "namespaced": True,
        "group": "autoscaling",
        "version": "v1",
        "kind": "Scale",
        "verbs": ["get", "patch", "update"],
    }


def test_groups_and_paths_that_are_none() -> None:
    groups = {g["name"]: g for g in discovery.api_group_list(REGISTRY)["groups"]}
    assert groups["apps"] == {
        "name": "apps",
        "versions": [{"groupVersion": "apps/v1", "version": "v1"}],
        "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"},
    }
    assert "" not in groups
    assert discovery.legacy(REGISTRY, "/apis/apps") == {"kind": "APIGroup", "apiVersion": "v1", **groups["apps"]}
    assert discovery.legacy(REGISTRY, "/apis/apps/v2") is None
    assert discovery.legacy(REGISTRY, "/apis/fruit.example.com/v1") is None


def test_aggregated_says_the_same_as_legacy() -> None:
    for form, prefix in ((discovery.aggregated_core, "/api"), (discovery.aggregated_groups, "/apis")):
        for group in form(REGISTRY)["items"]:
            for version in group["versions"]:
                path = "/".join(filter(None, (prefix, group["metadata"].get("name"), version["version"])))
                legacy = discovery.legacy(REGISTRY, path)
                assert legacy is not None
                names = set()
                for resource in version["resources"]:
                    names.add(resource["resource"])
                    names |= {f"{resource['resource']}/{s['subresource']}" for s in resource.get("subresources", ())}
                assert names == {r["name"] for r in legacy["resources"]}


def test_aggregated_subresource() -> None:
    (core,) = discovery.aggregated_core(REGISTRY)["items"]
    pods = next(r for r in core["versions"][0]["resources"] if r["resource"] == "pods")
    eviction = next(s for s in pods["subresources"] if s["subresource"] == "eviction")
    assert eviction == {
        "subresource": "eviction",
        "responseKind": {"group": "policy", "version": "v1", "kind": "Eviction"},
        "verbs": ["create"],
    }
