"""Settings of a cluster and what is wrong with bad ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubarium.cluster.spec import ClusterSpec, check_name, check_spec
from kubarium.machinery.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param({"name": "Lab"}, "--name 'Lab': expected lower-case", id="upper case"),
        pytest.param({"name": "-a"}, "--name '-a'", id="leading dash"),
        pytest.param({"name": "a" * 41}, "at most 40 characters", id="too long"),
        pytest.param({"name": "docker"}, "kept for kubarium itself", id="our own folder"),
        pytest.param({"workers": -1}, "--workers -1: expected 0 to 200", id="workers"),
        pytest.param({"store": "mysql"}, "--store mysql: expected sqlite or etcd", id="store"),
        pytest.param({"pod_cidr": "10.244.0.1/16"}, "--pod-cidr 10.244.0.1/16: ", id="host bits"),
        pytest.param({"pod_cidr": "127.0.0.0/8"}, "no packet is routed to 127.0.0.0/8", id="loopback"),
        pytest.param({"service_cidr": "224.0.0.0/16"}, "no packet is routed to 224.0.0.0/3", id="multicast"),
        pytest.param({"pod_cidr": "10.244.0.0/25"}, "cannot be cut into /24 node ranges", id="narrow pod CIDR"),
        pytest.param({"pod_cidr": "10.244.0.0/23"}, "holds 2 node ranges of /24, the cluster has 3", id="few ranges"),
        pytest.param({"service_cidr": "10.96.0.0/30"}, "too small for the Services", id="narrow Service CIDR"),
        pytest.param({"service_cidr": "10.0.0.0/8"}, "wider than the /12", id="wide Service CIDR"),
        pytest.param(
            {"service_cidr": "10.244.128.0/20"},
            "--pod-cidr 10.244.0.0/16 overlaps --service-cidr 10.244.128.0/20",
            id="pods and Services overlap",
        ),
        pytest.param(
            {"pod_cidr": "198.18.0.0/16"},
            "--pod-cidr 198.18.0.0/16 overlaps the nodes' network 198.18.0.0/15",
            id="pods and nodes overlap",
        ),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_spec(ClusterSpec(**settings))
    assert says in str(caught.value)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        check_spec(ClusterSpec(workers=-1, store="x", service_cidr="nonsense"))
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("name", ["default", "a", "lab-1", "0"])
def test_good_names(name: str) -> None:
    check_name(name)


def test_settings_survive_the_file(tmp_path: Path) -> None:
    spec = ClusterSpec(name="lab", workers=3, lan_index=7, api_port=6444)
    spec.save(tmp_path / "cluster.json")
    assert ClusterSpec.load(tmp_path / "cluster.json") == spec


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"workers": "2"}', '{"pod_cidr": 5}', '{"name": null}'])
def test_a_damaged_file_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "cluster.json").write_text(text)
    with pytest.raises(ConfigError, match="'kubarium down --name lab' removes that cluster"):
        ClusterSpec.load(tmp_path / "lab" / "cluster.json")


def test_addresses_follow_from_the_service_cidr() -> None:
    spec = ClusterSpec(service_cidr="10.100.0.0/16")
    assert (str(spec.kubernetes_ip), str(spec.dns_ip)) == ("10.100.0.1", "10.100.0.10")
