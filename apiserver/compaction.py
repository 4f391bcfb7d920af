"""Forgetting old versions: a list can be continued, and a watch resumed from the store, for one to two intervals.

Source: kube-apiserver's --etcd-compaction-interval, five minutes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from apiserver.store.base import Store
from kubarium.machinery.errors import StoreUnavailable

log = logging.getLogger(__name__)

INTERVAL_S: Final = 300.0


async def compact_periodically(store: Store, interval_s: float = INTERVAL_S) -> None:
    """For ever: every `interval_s` forget what was old the time before. Several servers may do so at once."""
    old = 0
    while True:
        try:
            newest = await store.revision()
            if old:
                await store.compact(old)
            old = newest
        except StoreUnavailable as err:
            log.warning("compaction put off: %s", err)
        await asyncio.sleep(interval_s)
