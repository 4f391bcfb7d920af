"""The command line of faults. What the faults do is tested with a whole lab in tests/cluster/test_supervisor.py."""

from __future__ import annotations

import os

import pytest
from click.testing import CliRunner

from kubarium.chaos.commands import chaos_cmd
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.spec import ClusterSpec


@pytest.fixture(autouse=True)
def home(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("faults need root")
    monkeypatch.setenv("KUBARIUM_HOME", str(tmp_path))


@pytest.mark.parametrize("arguments", [["kill-node", "node-1"], ["heal"], ["heal", "node-1"]])
def test_a_cluster_that_is_not_there(arguments: list[str]) -> None:
    result = CliRunner().invoke(chaos_cmd, [*arguments, "--name", "nowhere"])
    assert result.exit_code == 1
    assert "there is no cluster nowhere: 'kubarium up --name nowhere' makes one" in result.output


@pytest.mark.parametrize("command", ["kill-node", "heal"])
def test_a_node_that_is_not_there(command: str) -> None:
    ClusterSpec(name="lab").save(ClusterPaths.of("lab").spec)
    result = CliRunner().invoke(chaos_cmd, [command, "node-7", "--name", "lab"])
    assert result.exit_code == 1
    assert "cluster lab has no node node-7; there are control-plane, node-1, node-2" in result.output


def test_nothing_to_heal() -> None:
    ClusterSpec(name="lab").save(ClusterPaths.of("lab").spec)
    result = CliRunner().invoke(chaos_cmd, ["heal", "--name", "lab"])
    assert (result.exit_code, result.output) == (0, "cluster lab: no node is killed\n")
