"""The network that backends are tested in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubeproxy.conformance import CLIENT, LOCAL, NEIGHBOUR, REMOTE
from tests.kubeproxy.lab import Lab, running


@pytest.fixture(scope="class")
def lab() -> Iterator[Lab]:
    """A client and two servers behind node-1, one server behind node-2; one network for a class of tests."""
    with running() as lab:
        lab.pod("node-1", CLIENT)
        for node, address in (("node-1", LOCAL), ("node-1", NEIGHBOUR), ("node-2", REMOTE)):
            lab.serve(lab.pod(node, address))
        yield lab
