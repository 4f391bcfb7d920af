"""Watch fan-out: W watchers on one namespace, N ConfigMaps written by 8 writers, until every watcher saw all.

    python watch.py https://HOST:PORT TOKEN WATCHERS WRITES

Prints writes per second, events delivered per second over all watchers, and the delay from the start of a
write to its event at one watcher. Needs aiohttp and uvloop.
"""

import asyncio
import json
import ssl
import sys
import time

import aiohttp
import uvloop

URL, TOKEN, WATCHERS, WRITES = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
CONFIGMAPS = URL + "/api/v1/namespaces/fanout/configmaps"


async def main() -> None:
    insecure = ssl.create_default_context()
    insecure.check_hostname, insecure.verify_mode = False, ssl.CERT_NONE
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=insecure),
        headers={"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"},
        timeout=aiohttp.ClientTimeout(total=None),
    ) as http:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fanout"}}
        await http.post(URL + "/api/v1/namespaces", json=namespace)
        async with http.get(CONFIGMAPS + "?limit=1") as reply:
            version = (await reply.json())["metadata"]["resourceVersion"]
        run = f"{time.time_ns():x}"
        sent: dict[str, float] = {}
        delays: list[float] = []
        started, everyone = 0, asyncio.Event()

        async def watch(number: int) -> None:
            nonlocal started
            async with http.get(f"{CONFIGMAPS}?watch=1&resourceVersion={version}") as reply:
                started += 1
                if started == WATCHERS:
                    everyone.set()
                seen = 0
                async for line in reply.content:
                    seen += 1
                    if number == 0:
                        name = json.loads(line)["object"]["metadata"]["name"]
                        delays.append(time.perf_counter() - sent[name])
                    if seen == WRITES:
                        return

        numbers = iter(range(WRITES))

        async def write() -> None:
            for number in numbers:
                name = f"x-{run}-{number}"
                sent[name] = time.perf_counter()
                body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "x" * 200}}
                async with http.post(CONFIGMAPS, json=body) as reply:
                    assert reply.status == 201, await reply.text()

        watchers = [asyncio.create_task(watch(number)) for number in range(WATCHERS)]
        await everyone.wait()
        begin = time.perf_counter()
        await asyncio.gather(*(write() for _ in range(8)))
        written = time.perf_counter()
        await asyncio.gather(*watchers)
        end = time.perf_counter()
    delays.sort()
    print(
        f"watchers {WATCHERS}, writes {WRITES}: {WRITES / (written - begin):.0f} writes/s, "
        f"{WATCHERS * WRITES / (end - begin):.0f} events/s, "
        f"delay p50 {delays[len(delays) // 2] * 1e3:.1f} ms, p99 {delays[int(len(delays) * 0.99)] * 1e3:.1f} ms"
    )


uvloop.run(main())
