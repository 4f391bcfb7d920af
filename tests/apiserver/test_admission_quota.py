"""Quotas, where the store fails between two writes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apiserver.request import WriteOptions
from kubarium.machinery.errors import StoreUnavailable
from tests.apiserver.servers import JSON, call, create, get, in_process


async def test_nobody_goes_on_without_a_charge_when_the_store_fails_under_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes that come together are charged together; the failure of that charge gives nobody leave."""
    async with in_process(f"sqlite://{tmp_path}/store.db") as server:
        hard = {"configmaps": "4"}
        quota = await create(server, "resourcequotas", "q", spec={"hard": hard})
        body = json.dumps(quota | {"status": {"hard": hard, "used": {"configmaps": "0"}}}).encode()
        request = replace(call(server, "update", "resourcequotas", "q"), subresource="status")
        await server.pipeline.update(request, body, JSON, WriteOptions())
        store, charges = server.pipeline.state.store, 0
        whole = store.update

        async def update(key: str, value: bytes, **how: Any) -> int:
            nonlocal charges
            charges += "/resourcequotas/" in key
            await asyncio.sleep(0)  # so that the others come to wait
            if charges == 2:
                raise StoreUnavailable("for a moment")
            return await whole(key, value, **how)

        monkeypatch.setattr(store, "update", update)
        made = await asyncio.gather(*(create(server, "configmaps", f"m{i}") for i in range(4)), return_exceptions=True)
        assert sorted(type(one).__name__ for one in made) == ["ServiceUnavailable", "dict", "dict", "dict"]
        used = (await get(server, "resourcequotas", "q"))["status"]["used"]
        assert used == {"configmaps": "3"}
