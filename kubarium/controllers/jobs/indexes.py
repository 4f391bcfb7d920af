"""Completion indexes: sets of numbers as a Job's status writes them (`0,2-5,7`), and the index a pod stands for."""

from __future__ import annotations

from collections.abc import Iterable

from kubarium.machinery.objects import Pod

INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"


def parse_indexes(text: str, completions: int) -> set[int]:
    """What is no number, or beyond the completions, is left out."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if first.isdigit() and (not last or last.isdigit()):
            found.update(range(int(first), min(int(last or first), completions - 1) + 1))
    return found


def format_indexes(indexes: Iterable[int]) -> str:
    """`{0, 2, 3, 5, 6, 7}` -> `0,2,3,5-7`."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(_run(first, last) for first, last in runs)


def _run(first: int, last: int) -> str:
    if first == last:
        return str(first)
    return f"{first},{last}" if last == first + 1 else f"{first}-{last}"


def index_of(pod: Pod, completions: int) -> int | None:
    """The index of a pod; None where it has none, or one that the Job has not."""
    text = pod.metadata.annotations.get(INDEX, "")
    return int(text) if text.isdigit() and int(text) < completions else None


def failures_of(pod: Pod) -> int:
    """How often the pod's index had failed before the pod was made."""
    return _number(pod, FAILURES)


def all_failures_of(pod: Pod) -> int:
    """With those that the failure policy does not count."""
    return _number(pod, FAILURES) + _number(pod, IGNORED_FAILURES)


def ignored_failures_of(pod: Pod) -> int:
    return _number(pod, IGNORED_FAILURES)


def _number(pod: Pod, annotation: str) -> int:
    text = pod.metadata.annotations.get(annotation, "")
    return int(text) if text.isdigit() else 0


def first_pending(taken: set[int], count: int, completions: int) -> list[int]:
    """The lowest indexes that nothing has been done for."""
    found: list[int] = []
    for index in range(completions):
        if len(found) == count:
            break
        if index not in taken:
            found.append(index)
    return found
