from __future__ import annotations

from typing import Any

import pytest

from kubarium.controllers.rollout import (
    DESIRED,
    MAXIMUM,
    REVISION,
    REVISION_HISTORY,
    Plan,
    fenceposts,
    plan_deployment,
)
from kubarium.controllers.views import Deployment, ReplicaSet
from tests.controllers.build import NOW, ago, deployment, replicaset


def plan(d: Deployment, *owned: ReplicaSet, old_pods_running: bool = False) -> Plan:
    return plan_deployment(d, owned, old_pods_running=old_pods_running, now=NOW)


def sizes(result: Plan) -> dict[str, int]:
    return {change.name: change.size for change in result.changes if change.size != change.rs.spec.replicas}


def condition(result: Plan, kind: str) -> dict[str, str]:
    return next(c for c in result.status["conditions"] if c["type"] == kind)


def sized(replicas: int, surge: int = 0) -> dict[str, Any]:
    return {"annotations": {DESIRED: str(replicas), MAXIMUM: str(replicas + surge), REVISION: "1"}}


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        pytest.param(3, "25%", "25%", (1, 0), id="surge rounds up, unavailability down"),
        pytest.param(10, 2, 3, (2, 3), id="numbers"),
        pytest.param(3, 0, "10%", (0, 1), id="not both zero"),
        pytest.param(1, 1, 5, (1, 1), id="no more unavailable than there are"),
    ],
)
def test_fenceposts(replicas: int, surge: int | str, unavailable: int | str, expected: tuple[int, int]) -> None:
    assert fenceposts(deployment(replicas, surge=surge, unavailable=unavailable)) == expected


def test_a_new_deployment_gets_its_replicaset() -> None:
    result = plan(
        deployment(3, metadata={"annotations": {"team": "a", "kubectl.kubernetes.io/last-applied-configuration": "x"}})
    )
    assert result.create is not None
    word = result.create["metadata"]["labels"]["pod-template-hash"]
    assert result.create["metadata"]["name"] == f"web-{word}"
    assert result.create["metadata"]["annotations"] == {"team": "a", REVISION: "1", DESIRED: "3", MAXIMUM: "4"}
    assert result.create["spec"]["replicas"] == 3
    assert result.create["spec"]["selector"] == {"matchLabels": {"app": "web", "pod-template-hash": word}}
    assert result.create["spec"]["template"]["metadata"]["labels"] == {"app": "web", "pod-template-hash": word}
    assert result.annotations == {REVISION: "1"}
    assert condition(result, "Progressing")["reason"] == "NewReplicaSetCreated"


def test_the_name_depends_on_the_template_and_on_collisions_only() -> None:
    names = [
        plan(d).create["metadata"]["name"]  # type: ignore[index]
        for d in (deployment(1), deployment(5), deployment(1, image="b"), deployment(1, status={"collisionCount": 1}))
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_the_hash_label_of_a_template_does_not_make_it_another() -> None:
    rs = replicaset("web-1", 3, metadata=sized(3, 1))
    rs.spec.template["metadata"]["labels"]["pod-template-hash"] = "1"
    assert plan(deployment(3), rs).create is None


ROLLOUT = [
    pytest.param((3, 3), None, {"web-new": 1}, id="a missing new one starts with the surge"),
    pytest.param((3, 3), (1, 0), {}, id="nothing goes before the new pod is available"),
    pytest.param((3, 3), (1, 1), {"web-old": 2}, id="one available: one old pod goes"),
    pytest.param((2, 2), (1, 1), {"web-new": 2}, id="room again: the new one grows"),
    pytest.param((3, 2), (1, 0), {}, id="as many as must be available are not: an unhealthy old pod stays"),
    pytest.param((0, 0), (3, 3), {}, id="done"),
]


@pytest.mark.parametrize(("old", "new", "expected"), ROLLOUT)
def test_rolling_update(old: tuple[int, int], new: tuple[int, int] | None, expected: dict[str, int]) -> None:
    owned = [replicaset("web-old", old[0], ready=old[1], metadata=sized(3, 1))]
    if new is not None:
        owned.append(replicaset("web-new", new[0], image="b", ready=new[1], metadata=sized(3, 1)))
    result = plan(deployment(3, image="b", surge=1, unavailable=0), *owned)
    if new is None:
        assert result.create is not None
        assert result.create["spec"]["replicas"] == expected["web-new"]
    else:
        assert sizes(result) == expected


def test_a_rollout_ends_and_never_has_too_few_or_too_many() -> None:
    """Every step applied and every pod ready at once: the fixpoint is reached within the fence posts."""
    owned = {"web-old": replicaset("web-old", 10, metadata=sized(10, 3))}
    for _ in range(40):
        result = plan(deployment(10, image="b", surge=3, unavailable=2), *owned.values())
        if result.create is not None:
            size = result.create["spec"]["replicas"]
            owned["web-new"] = replicaset("web-new", size, image="b", metadata=sized(10, 3))
        for change in result.changes:
            image = "b" if change.name == "web-new" else "nginx:1"
            owned[change.name] = replicaset(
                change.name, change.size, image=image, metadata={"annotations": change.annotations}
            )
        total = sum(rs.spec.replicas for rs in owned.values())
        assert 8 <= total <= 13
    assert {name: rs.spec.replicas for name, rs in owned.items()} == {"web-old": 0, "web-new": 10}
    assert condition(result, "Progressing")["reason"] == "NewReplicaSetAvailable"
    assert condition(result, "Progressing")["message"] == 'ReplicaSet "web-new" has successfully progressed.'


def test_unhealthy_old_pods_go_first_and_may_all_go() -> None:
    owned = [
        replicaset("web-a", 2, ready=2, metadata={**sized(4, 1), "creationTimestamp": ago(900)}),
        replicaset("web-b", 2, image="x", ready=0, metadata={**sized(4, 1), "creationTimestamp": ago(600)}),
        replicaset("web-new", 1, image="b", ready=1, metadata=sized(4, 1)),
    ]
    assert sizes(plan(deployment(4, image="b", surge=1, unavailable=1), *owned)) == {"web-b": 0}


def test_recreate_waits_for_the_last_old_pod() -> None:
    d = deployment(3, image="b", strategy="Recreate")
    old = replicaset("web-old", 3, metadata=sized(3))
    assert sizes(plan(d, old, old_pods_running=True)) == {"web-old": 0}
    gone = replicaset("web-old", 0, metadata=sized(3))
    assert plan(d, gone, old_pods_running=True).create is None
    created = plan(d, gone).create
    assert created is not None
    assert created["spec"]["replicas"] == 3


def test_scaling_during_a_rollout_keeps_proportions() -> None:
    owned = [
        replicaset("web-old", 8, metadata=sized(10, 3)),
        replicaset("web-new", 5, image="b", ready=0, metadata=sized(10, 3)),
    ]
    result = plan(deployment(15, image="b", surge=3, unavailable=2), *owned)
    assert sizes(result) == {"web-old": 11, "web-new": 7}


def test_scaling_without_a_rollout() -> None:
    result = plan(deployment(5), replicaset("web-1", 3, metadata=sized(3, 1)))
    assert sizes(result) == {"web-1": 5}
    assert result.changes[0].annotations[DESIRED] == "5"


def test_a_rollback_gives_the_old_replicaset_the_next_revision() -> None:
    first = replicaset("web-1", 0, metadata={"annotations": {REVISION: "1"}, "creationTimestamp": ago(900)})
    second = replicaset("web-2", 3, image="b", metadata={"annotations": {REVISION: "2", DESIRED: "3", MAXIMUM: "4"}})
    result = plan(deployment(3, metadata={"annotations": {REVISION: "2"}}), first, second)
    (change,) = (change for change in result.changes if change.name == "web-1")
    assert (change.annotations[REVISION], change.annotations[REVISION_HISTORY]) == ("3", "1")
    assert result.annotations == {REVISION: "3"}


def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    result = plan(deployment(5, image="b", paused=True), replicaset("web-1", 3, metadata=sized(3, 1)))
    assert result.create is None
    assert sizes(result) == {"web-1": 5}
    assert condition(result, "Progressing")["reason"] == "DeploymentPaused"


def test_history_beyond_the_limit_is_deleted_oldest_first() -> None:
    old = [
        replicaset(
            f"web-{n}",
            0,
            image=f"v{n}",
            metadata={"annotations": {REVISION: str(n)}, "creationTimestamp": ago(900 - n)},
        )
        for n in (1, 2, 3)
    ]
    current = replicaset("web-new", 2, image="b", metadata={"annotations": {REVISION: "4", DESIRED: "2", MAXIMUM: "3"}})
    status = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}
    result = plan(deployment(2, image="b", revisionHistoryLimit=1, status=status), *old, current)
    assert [rs.metadata.name for rs in result.delete] == ["web-1", "web-2"]


def progressing(reason: str, since_s: float) -> dict[str, Any]:
    stamp = ago(since_s)
    return {
        "conditions": [
            {
                "type": "Progressing",
                "status": "True",
                "reason": reason,
                "lastUpdateTime": stamp,
                "lastTransitionTime": stamp,
            }
        ]
    }


def test_a_rollout_that_stands_still_times_out() -> None:
    rs = replicaset("web-1", 3, ready=0, metadata=sized(3, 1))
    status = {"replicas": 3, "updatedReplicas": 3, **progressing("ReplicaSetUpdated", 700)}
    result = plan(deployment(3, status=status), rs)
    timed_out = condition(result, "Progressing")
    assert (timed_out["status"], timed_out["reason"]) == ("False", "ProgressDeadlineExceeded")
    assert timed_out["message"] == 'ReplicaSet "web-1" has timed out progressing.'
    assert condition(result, "Available")["reason"] == "MinimumReplicasUnavailable"


def test_the_deadline_is_looked_at_when_it_passes() -> None:
    rs = replicaset("web-1", 3, ready=0, metadata=sized(3, 1))
    status = {"replicas": 3, "updatedReplicas": 3, **progressing("ReplicaSetUpdated", 100)}
    assert plan(deployment(3, status=status), rs).requeue_after_s == pytest.approx(501, abs=1)


def test_progress_renews_the_clock_but_not_the_transition() -> None:
    rs = replicaset("web-1", 3, ready=2, metadata=sized(3, 1))
    status = {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 1, **progressing("ReplicaSetUpdated", 100)}
    renewed = condition(plan(deployment(3, status=status), rs), "Progressing")
    assert (renewed["lastUpdateTime"], renewed["lastTransitionTime"]) == (ago(0), ago(100))


def test_status_counts() -> None:
    owned = [
        replicaset("web-old", 2, ready=2, metadata=sized(3, 1)),
        replicaset("web-new", 1, image="b", ready=0, metadata=sized(3, 1)),
    ]
    status = plan(deployment(3, image="b", surge=1, unavailable=1), *owned).status
    assert {k: v for k, v in status.items() if k != "conditions"} == {
        "observedGeneration": 2,
        "replicas": 3,
        "updatedReplicas": 1,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "unavailableReplicas": 1 + 1,  # the next new pod is counted as soon as it is asked for
        "collisionCount": None,
    }


def test_a_deployment_being_deleted_only_reports() -> None:
    result = plan(deployment(3, image="b", metadata={"deletionTimestamp": ago(1)}), replicaset("web-1", 1))
    assert (result.create, result.changes, result.delete) == (None, (), ())
