"""The few requests that the lab itself makes of the API server, over http.client.

The client of kubarium.machinery does the same and much more, on an event loop; these come from short-lived processes in
which its imports would cost more than the requests.
"""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kubarium.cluster.identities import admin_token, server_url
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.spec import ClusterSpec
from kubarium.machinery.errors import ApiError, ServiceUnavailable


@dataclass(frozen=True, slots=True)
class RestApi:
    """An API server as the administrator sees it. Every error is an ApiError; no answer is ServiceUnavailable."""

    server: str
    token: str
    tls: ssl.SSLContext
    timeout_s: float = 10.0

    @staticmethod
    def of(spec: ClusterSpec, paths: ClusterPaths) -> RestApi:
        """Raises ServiceUnavailable while the cluster has no certificates yet."""
        try:
            tls = ssl.create_default_context(cafile=str(paths.pki / "ca.crt"))
            return RestApi(server_url(spec), admin_token(paths), tls)
        except OSError as err:
            raise ServiceUnavailable(f"the cluster has no certificates yet: {err}") from err

    def call(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json") -> Any:
        """One request, its JSON answer decoded."""
        where = urlsplit(self.server)
        connection = http.client.HTTPSConnection(where.netloc, timeout=self.timeout_s, context=self.tls)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type, "Accept": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as err:
            raise ServiceUnavailable(f"{self.server}: {err}") from err
        finally:
            connection.close()
        value: Any
        try:
            value = json.loads(text)
        except ValueError:  # /readyz and the like
            value = {"message": text.decode(errors="replace").strip(), "code": answer.status}
        if answer.status >= 400:
            raise ApiError.from_status(value)
        return value
