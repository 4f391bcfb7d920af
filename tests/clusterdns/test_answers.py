from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubarium.clusterdns import wire
from tests.clusterdns.build import Server, endpoints, service, texts


@pytest.fixture
def server() -> Server:
    made = Server()
    made.put(service("web"))
    made.put(service("kubernetes", ip="10.96.0.1"))
    made.put(
        service("db", ip="None"),
        endpoints(
            "10.244.1.2", "10.244.2.2", "10.244.2.3", hostnames={"10.244.1.2": "db-0"}, not_ready=("10.244.2.3",)
        ),
    )
    made.put(service("docs", ip="", type="ExternalName", externalName="Docs.Example.com"))
    made.put(service("alias", ip="", type="ExternalName", externalName="web.default.svc.cluster.local"))
    made.put(service("dual", ip="10.96.0.9", clusterIPs=["10.96.0.9", "fd00::9"]))
    return made


SPECIFICATION = [
    ("web.default.svc.cluster.local", "A", ["10.96.0.7"]),
    ("WEB.default.SVC.cluster.local", "A", ["10.96.0.7"]),
    ("web.default.svc.cluster.local", "AAAA", []),
    ("dual.default.svc.cluster.local", "AAAA", ["fd00::9"]),
    ("web.default.svc.cluster.local", "SRV", ["0 100 80 web.default.svc.cluster.local."]),
    ("_http._tcp.web.default.svc.cluster.local", "SRV", ["0 100 80 web.default.svc.cluster.local."]),
    ("_https._tcp.web.default.svc.cluster.local", "SRV", ["NXDOMAIN"]),
    ("7.0.96.10.in-addr.arpa", "PTR", ["web.default.svc.cluster.local."]),
    ("db.default.svc.cluster.local", "A", ["10.244.1.2", "10.244.2.2"]),
    ("db-0.db.default.svc.cluster.local", "A", ["10.244.1.2"]),
    ("10-244-2-2.db.default.svc.cluster.local", "A", ["10.244.2.2"]),
    (
        "_http._tcp.db.default.svc.cluster.local",
        "SRV",
        ["0 100 8080 10-244-2-2.db.default.svc.cluster.local.", "0 100 8080 db-0.db.default.svc.cluster.local."],
    ),
    ("2.1.244.10.in-addr.arpa", "PTR", ["db-0.db.default.svc.cluster.local."]),
    ("docs.default.svc.cluster.local", "A", ["docs.example.com."]),
    ("docs.default.svc.cluster.local", "CNAME", ["docs.example.com."]),
    ("alias.default.svc.cluster.local", "A", ["10.96.0.7", "web.default.svc.cluster.local."]),
    ("10-244-1-2.default.pod.cluster.local", "A", ["10.244.1.2"]),
    ("10-244-1-2.nowhere.pod.cluster.local", "A", ["NXDOMAIN"]),
    ("10-244-1-999.default.pod.cluster.local", "A", ["NXDOMAIN"]),
    ("dns-version.cluster.local", "TXT", ['"1.1.0"']),
    ("cluster.local", "NS", ["ns.dns.cluster.local."]),
    ("default.svc.cluster.local", "A", []),
    ("svc.cluster.local", "A", []),
    ("cluster.local", "A", []),
    ("nobody.default.svc.cluster.local", "A", ["NXDOMAIN"]),
    ("web.default.svc.cluster.local.default.svc.cluster.local", "A", ["NXDOMAIN"]),
    ("web.cluster.local", "A", ["NXDOMAIN"]),
    ("example.com", "A", ["REFUSED"]),
    ("notcluster.local", "A", ["REFUSED"]),
    ("4.3.2.1.in-addr.arpa", "PTR", ["REFUSED"]),
]


@pytest.mark.parametrize(("name", "kind", "expected"), SPECIFICATION)
def test_answers(server: Server, name: str, kind: str, expected: list[str]) -> None:
    assert server.answer(name, kind) == expected
    assert server.answer(name, kind) == expected  # and from what was compiled


@pytest.mark.parametrize("kind", ["A", "AAAA"])
@pytest.mark.parametrize("name", ["nobody.default.svc.cluster.local", "default.svc.cluster.local"])
def test_a_no_carries_the_soa(server: Server, name: str, kind: str) -> None:
    message = server.ask(name, kind)
    (soa,) = message.authority
    assert (soa.name.to_text(), soa.rdtype, soa.ttl) == ("cluster.local.", dns.rdatatype.SOA, 5)
    assert message.flags & dns.flags.AA


def test_srv_brings_addresses(server: Server) -> None:
    message = server.ask("_http._tcp.db.default.svc.cluster.local", "SRV")
    assert {rrset.name.to_text(): rrset[0].to_text() for rrset in message.additional} == {
        "db-0.db.default.svc.cluster.local.": "10.244.1.2",
        "10-244-2-2.db.default.svc.cluster.local.": "10.244.2.2",
    }


def test_a_change_is_seen_at_once(server: Server) -> None:
    name = "web.default.svc.cluster.local"
    assert server.answer(name) == ["10.96.0.7"]
    server.put(service("web", ip="10.96.0.8"))
    assert server.answer(name) == ["10.96.0.8"]
    assert server.answer("7.0.96.10.in-addr.arpa", "PTR") == ["REFUSED"]
    server.remove(service("web"))
    assert server.answer(name) == ["NXDOMAIN"]
    assert server.answer("alias.default.svc.cluster.local") == ["NXDOMAIN", f"{name}."]
    server.put(service("web"))
    assert server.answer(name) == ["10.96.0.7"]
    assert server.answer("alias.default.svc.cluster.local") == ["10.96.0.7", f"{name}."]


def test_other_objects_keep_their_compiled_answers(server: Server) -> None:
    server.ask("kubernetes.default.svc.cluster.local", id=1)
    server.ask("web.default.svc.cluster.local", id=1)
    before = dict(server.responder._compiled)
    server.put(service("web", ip="10.96.0.8"))
    assert len(before) - len(server.responder._compiled) == 1


def test_a_name_between_exists_while_something_is_below() -> None:
    server = Server()
    assert server.answer("ns-2.svc.cluster.local") == ["NXDOMAIN"]
    svc = service("web", namespace="ns-2")
    server.put(svc)
    assert server.answer("ns-2.svc.cluster.local") == []
    server.remove(svc)
    assert server.answer("ns-2.svc.cluster.local") == ["NXDOMAIN"]


def test_addresses_take_turns(server: Server) -> None:
    first = [server.ask("db.default.svc.cluster.local").answer[0][0].to_text() for _ in range(4)]
    assert len(set(first)) == 2


def test_not_ready_says_so() -> None:
    server = Server()
    server.responder.ready = False
    assert server.answer("web.default.svc.cluster.local") == ["SERVFAIL"]


def test_a_long_answer_is_cut_and_whole_over_tcp() -> None:
    server = Server()
    ips = [f"10.244.{number // 250}.{number % 250}" for number in range(200)]
    server.put(service("many", ip="None"), endpoints(*ips))
    name = "many.default.svc.cluster.local"
    query = dns.message.make_query(name, "A", use_edns=False)
    for options, limit in (({"use_edns": False}, 512), ({"use_edns": 0, "payload": 4096}, 1232)):
        asked: dict[str, Any] = options
        cut = server.ask(name, **asked)
        assert cut.flags & dns.flags.TC
        assert 0 < len(texts(cut)) < 200
        assert len(server.responder.udp(dns.message.make_query(name, "A", **asked).to_wire()) or b"") <= limit
    whole = dns.message.from_wire(server.responder.tcp(query.to_wire()) or b"")
    assert len(texts(whole)) == 200
    assert not whole.flags & dns.flags.TC


def test_edns_is_answered_with_edns(server: Server) -> None:
    assert server.ask("web.default.svc.cluster.local", use_edns=0).edns == 0
    assert server.ask("web.default.svc.cluster.local", use_edns=False).edns == -1
    query = dns.message.make_query("web.default.svc.cluster.local", "A", use_edns=1)
    assert (server.responder.udp(query.to_wire()) or b"")[3] & 15 == dns.rcode.BADVERS & 15


@pytest.mark.parametrize(
    ("packet", "rcode"),
    [
        pytest.param(b"", None, id="empty"),
        pytest.param(b"\0\1\x80\0\0\1\0\0\0\0\0\0", None, id="a response"),
        pytest.param(b"\0\1\x28\0\0\1\0\0\0\0\0\0", dns.rcode.NOTIMP, id="an update"),
        pytest.param(b"\0\1\0\0\0\0\0\0\0\0\0\0", dns.rcode.FORMERR, id="no question"),
        pytest.param(b"\0\1\0\0\0\1\0\0\0\0\0\0\3web", dns.rcode.FORMERR, id="cut off"),
        pytest.param(b"\0\1\0\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", dns.rcode.FORMERR, id="a pointer to itself"),
    ],
)
def test_bad_messages(server: Server, packet: bytes, rcode: int | None) -> None:
    response = server.responder.udp(packet)
    assert response is not None
    if rcode is None:
        assert response == b""
    else:
        assert response[:2] == packet[:2]
        assert response[3] & 15 == rcode


@given(st.binary(max_size=80), st.booleans())
def test_no_message_is_its_death(noise: bytes, header: bool) -> None:
    server = Server()
    packet = b"\0\1\1\0\0\1\0\0\0\0\0\1" + noise if header else noise
    response = server.responder.udp(packet)
    assert response is not None
    assert response == b"" or response[:2] == packet[:2]


@given(st.lists(st.text("abcxyzABC-019", min_size=1, max_size=63), min_size=1, max_size=3))
def test_names_go_to_wire_as_dnspython_has_them(labels: list[str]) -> None:
    text = ".".join(labels)
    assert wire.encode_name(text) == dns.name.from_text(text).to_wire().lower()


def test_manifests_name_each_other() -> None:
    from kubarium.clusterdns.manifests import manifests

    runtime_class, account, svc, deployment = manifests("10.96.0.10", replicas=2)
    spec = deployment["spec"]["template"]["spec"]
    assert spec["runtimeClassName"] == runtime_class["metadata"]["name"]
    assert spec["serviceAccountName"] == account["metadata"]["name"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert svc["spec"]["selector"] == labels == deployment["spec"]["selector"]["matchLabels"]
    names = {port["name"] for port in spec["containers"][0]["ports"]}
    assert {port["targetPort"] for port in svc["spec"]["ports"]} < names
