"""Make COUNT objects of a kind with CONNECTIONS clients at once; prints creates per second of each thousand.

python fill.py https://HOST:PORT TOKEN configmaps|services COUNT [CONNECTIONS]
"""

import asyncio
import ssl
import sys
import time
from itertools import pairwise

import aiohttp
import uvloop

URL, TOKEN, PLURAL, COUNT = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
CONNECTIONS = int(sys.argv[5]) if len(sys.argv) > 5 else 16
STEP = 1000
BODIES = {
    "configmaps": ',"data":{"k":"' + "x" * 1200 + '"}',
    "services": ',"spec":{"selector":{"app":"x"},"ports":[{"port":80,"targetPort":8080}]}',
}
KINDS = {"configmaps": "ConfigMap", "services": "Service"}


async def main() -> None:
    insecure = ssl.create_default_context()
    insecure.check_hostname, insecure.verify_mode = False, ssl.CERT_NONE
    numbers = iter(range(COUNT))
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    moments = [time.perf_counter()]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=insecure), headers=headers) as http:

        async def write() -> None:
            for number in numbers:
                head = f'{{"apiVersion":"v1","kind":"{KINDS[PLURAL]}","metadata":{{"name":"fill-{number}"}}'
                body = head + BODIES[PLURAL] + "}"
                async with http.post(f"{URL}/api/v1/namespaces/default/{PLURAL}", data=body) as reply:
                    assert reply.status == 201, await reply.text()
                if number % STEP == STEP - 1:
                    moments.append(time.perf_counter())

        await asyncio.gather(*(write() for _ in range(CONNECTIONS)))
    print(" ".join(f"{STEP / (end - begin):.0f}" for begin, end in pairwise(moments)))


uvloop.run(main())
