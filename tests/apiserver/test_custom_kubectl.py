"""An unmodified kubectl with custom resources: the CronTab of the documentation, and a large definition."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubarium.testing.apiserver import ApiServer

Kubectl = Callable[..., str]
FOLDER = Path(__file__).with_name("custom")

CRON_TABS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              cronSpec: {type: string, description: When it runs.}
              image: {type: string}
              replicas: {type: integer, default: 1}
          status:
            type: object
            properties:
              replicas: {type: integer}
"""
CRON_TAB = """
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: mine}
spec: {cronSpec: "* * * * */5", image: %s}
"""
ROUTE = """
apiVersion: gateway.example.com/v1
kind: Route
metadata: {name: web}
spec:
  hostnames: [a.example.com, "*.b.example.com"]
  parents: [{name: gate}]
  rules:
  - matches: [{path: {value: %s}}]
    backends: [{name: web, port: 80}, {name: other, port: http, weight: 3}]
"""


@pytest.fixture(scope="module")
def kc(shared_apiserver: ApiServer, kubectl: Path) -> Iterator[Kubectl]:
    """Run kubectl; what it prints, errors last. AssertionError where it does not fail or succeed as it should."""
    env = {
        "KUBECONFIG": str(shared_apiserver.kubeconfig),
        "HOME": str(shared_apiserver.log.parent),
        "PATH": os.environ["PATH"],
    }

    def run(*args: str, stdin: str | None = None, fails: bool = False) -> str:
        argv = [str(kubectl), *args]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60, env=env, check=False)
        assert bool(done.returncode) == fails, f"{args}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    run("apply", "-f", "-", stdin=CRON_TABS)
    run("apply", "-f", str(FOLDER / "routes.yaml"))
    yield run
    run("delete", "-f", "-", stdin=CRON_TABS)
    run("delete", "-f", str(FOLDER / "routes.yaml"))


def test_a_custom_kind_is_applied_listed_scaled_and_deleted(kc: Kubectl) -> None:
    apply = ("apply", "-f", "-")
    assert kc(*apply, stdin=CRON_TAB % "one") == "crontab.stable.example.com/mine created\n"
    assert kc(*apply, stdin=CRON_TAB % "one") == "crontab.stable.example.com/mine unchanged\n"
    assert kc(*apply, stdin=CRON_TAB % "two") == "crontab.stable.example.com/mine configured\n"
    assert kc("scale", "ct/mine", "--replicas=3") == "crontab.stable.example.com/mine scaled\n"
    for name in ("ct", "crontab", "crontabs.stable.example.com"):
        assert kc("get", name).split() == ["NAME", "SPEC", "REPLICAS", "mine", "*", "*", "*", "*", "*/5", "3"]
    assert "crontab.stable.example.com/mine" in kc("get", "all")
    assert "Image:" in kc("describe", "ct", "mine")
    assert kc(*apply, "--server-side", "--force-conflicts", stdin=CRON_TAB % "three").endswith("serverside-applied\n")
    assert "unknown field" in kc(*apply, stdin=CRON_TAB.replace("image", "imagx") % "x", fails=True)
    assert kc("delete", "ct", "mine") == 'crontab.stable.example.com "mine" deleted from default namespace\n'


def test_a_custom_kind_is_explained(kc: Kubectl) -> None:
    text = kc("explain", "ct.spec.cronSpec")
    assert "CronTab" in text
    assert "When it runs." in text
    assert "weight\t<integer>" in kc("explain", "route.spec.rules.backends")
    assert "ENUM:\n    Public\n    Private\n" in kc("explain", "route.spec.tier")


def test_a_large_definition_defaults_and_judges(kc: Kubectl) -> None:
    apply = ("apply", "-f", "-")
    kc(*apply, stdin=ROUTE % "/a")
    shown = kc("get", "rt", "-o", "wide", "--field-selector", "spec.tier=Public").split()
    assert shown[: shown.index("web")] == ["NAME", "HOSTNAMES", "TIER", "WEIGHTS", "ACCEPTED", "AGE"]
    filled = "jsonpath={.spec.parents[0].port} {.spec.rules[0].backends[0].weight}"
    assert kc("get", "rt", "web", "-o", filled) == "80 1"
    assert kc("get", "rt", "web", "-o", "jsonpath={.spec.rules[0].matches[0].path.type}") == "Prefix"
    assert "the path b does not begin with /" in kc(*apply, stdin=ROUTE % "b", fails=True)
    tier = ("patch", "rt", "web", "--type=merge", "-p", '{"spec":{"tier":"Private"}}')
    assert "the tier does not change" in kc(*tier, fails=True)
    rules = '{"spec":{"rules":[{"filters":[{"type":"Redirect","redirect":{}}],"backends":[{"name":"x"}]}]}}'
    text = kc("patch", "rt", "web", "--type=merge", "-p", rules, fails=True)
    assert "spec.rules[0].backends: Forbidden: a rule that redirects has no backends" in text
    assert "application/strategic-merge-patch+json is not supported" in kc("patch", "rt", "web", "-p", "{}", fails=True)
    kc("delete", "rt", "web")
