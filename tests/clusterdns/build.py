"""Objects and questions for tests."""

from __future__ import annotations

from typing import Any

import dns.message
import dns.rcode
import dns.rdatatype

from kubarium.clusterdns.answers import Responder
from kubarium.clusterdns.records import service_records
from kubarium.clusterdns.zone import Zone
from kubarium.machinery.objects import EndpointSlice, Service, convert

DOMAIN = "cluster.local"


def service(name: str, *, namespace: str = "default", ip: str = "10.96.0.7", **spec: Any) -> Service:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    ips = [ip] if ip != "None" else []
    wire = {"clusterIP": ip, "clusterIPs": ips, "ports": ports, **spec}
    return convert(Service, {"metadata": {"name": name, "namespace": namespace}, "spec": wire})


def endpoints(*ips: str, hostnames: dict[str, str] | None = None, not_ready: tuple[str, ...] = ()) -> EndpointSlice:
    members = [
        {"addresses": [ip], "hostname": (hostnames or {}).get(ip, ""), "conditions": {"ready": ip not in not_ready}}
        for ip in ips
    ]
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    return convert(EndpointSlice, {"addressType": "IPv4", "endpoints": members, "ports": ports})


class Server:
    """A zone and its responder, asked with dnspython: what goes in and out is checked by somebody else's code."""

    def __init__(self) -> None:
        self.zone = Zone(DOMAIN)
        self.responder = Responder(self.zone)
        self.responder.ready = True
        self.zone.set_namespaces(["default", "kube-system"])

    def put(self, svc: Service, *slices: EndpointSlice) -> None:
        self.responder.forget(self.zone.put(str(svc.key), service_records(svc, slices, DOMAIN)))

    def remove(self, svc: Service) -> None:
        self.responder.forget(self.zone.put(str(svc.key), {}))

    def ask(self, name: str, kind: str = "A", **options: Any) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **options)
        response = self.responder.udp(query.to_wire())
        assert response
        message = dns.message.from_wire(response)
        assert message.id == query.id
        assert message.question[0].to_text() == query.question[0].to_text()
        return message

    def answer(self, name: str, kind: str = "A") -> list[str]:
        """The answers' data; rcode in front where it is not NOERROR."""
        return texts(self.ask(name, kind))


def texts(message: dns.message.Message) -> list[str]:
    found = sorted(record.to_text() for rrset in message.answer for record in rrset)
    if message.rcode() != dns.rcode.NOERROR:
        return [dns.rcode.to_text(message.rcode()), *found]
    return found
