"""Views of what servers send."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from kubarium.machinery import objects, resources
from kubarium.machinery.objects import EndpointSlice, ObjectKey, Pod, Service, convert, decode, wire_name


@pytest.mark.parametrize(
    ("field", "wire"),
    [
        ("pod_ip", "podIP"),
        ("pod_cidrs", "podCIDRs"),
        ("cluster_ips", "clusterIPs"),
        ("provider_id", "providerID"),
        ("host_pid", "hostPID"),
        ("ip_families", "ipFamilies"),
        ("api_version", "apiVersion"),
        ("set_hostname_as_fqdn", "setHostnameAsFQDN"),
        ("downward_api", "downwardAPI"),
        ("from_", "from"),
        ("uid", "uid"),
    ],
)
def test_fields_are_spelt_as_on_the_wire(field: str, wire: str) -> None:
    assert wire_name(field) == wire


def test_unknown_fields_are_ignored_and_absent_ones_have_defaults() -> None:
    pod = decode(Pod, b'{"metadata":{"name":"a","namespace":"n","new":1},"spec":{"hostPID":true},"more":{}}')
    assert pod.key == ObjectKey("n", "a") and str(pod.key) == "n/a"
    assert pod.spec.host_pid and pod.status.pod_ips == () and pod.spec.priority is None
    assert (pod.kind, pod.api_version) == ("Pod", "v1")


def test_nulls_count_as_absent() -> None:
    slice_ = decode(EndpointSlice, b'{"metadata":{"name":"a","creationTimestamp":null},"endpoints":null,"ports":null}')
    assert slice_.endpoints == () and slice_.metadata.creation_timestamp == ""


def test_a_wrong_type_is_an_error() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(Service, b'{"metadata":{"name":1}}')


def test_ports_are_numbers_or_names() -> None:
    service = convert(Service, {"spec": {"ports": [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 8}]}})
    assert [port.target_port for port in service.spec.ports] == ["http", 8]


def test_every_resource_has_a_view_of_its_kind() -> None:
    found = [value for value in vars(resources).values() if isinstance(value, resources.Resource)]
    assert found
    for resource in found:
        assert resource.view is getattr(objects, resource.kind)
        view = convert(resource.view, {"metadata": {"name": "x"}})
        assert (view.kind, view.api_version) == (resource.kind, resource.api_version)


def test_views_are_read_only(tmp_path: Path) -> None:
    pod = decode(Pod, json.dumps({"metadata": {"name": "a"}}).encode())
    with pytest.raises(AttributeError):
        pod.metadata.name = "b"  # type: ignore[misc]
