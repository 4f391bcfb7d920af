"""Who asks: certificates, fixed tokens, tokens of ServiceAccounts."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from apiserver.auth import bootstraptokens
from apiserver.auth.authenticator import ANONYMOUS_USER, Authenticator, subject_of
from apiserver.auth.authorizer import AlwaysAllow, refusal
from apiserver.auth.keys import jwks
from apiserver.auth.legacytokens import InvalidToken
from apiserver.auth.serviceaccounts import Binding, Lifetime, ServiceAccountTokens, TokenSubject
from apiserver.auth.tokens import load_token_file, token_digest
from apiserver.codec import Head
from apiserver.registry import REGISTRY
from apiserver.request import Request, User, WriteOptions
from apiserver.reviews import REVIEWS, Reviews
from apiserver.watchcache import Entry
from kubarium.machinery import pki
from kubarium.machinery.accounttokens import legacy_claims, load_signer, load_verifiers, sign
from kubarium.machinery.errors import ConfigError, Unauthorized
from kubarium.machinery.times import format_timestamp

ISSUER = "https://issuer.example"
WEB = TokenSubject("shop", "web", "uid-1")


Objects = dict[tuple[str, str, str], Entry]


def entry(uid: str, *, deleted_s_ago: float | None = None, **obj: Any) -> Entry:
    """What of a stored object tokens depend on."""
    metadata: dict[str, Any] = {"uid": uid}
    if deleted_s_ago is not None:
        metadata["deletionTimestamp"] = format_timestamp(time.time() - deleted_s_ago)
    return Entry("key", 1, 1, json.dumps({"metadata": metadata, **obj}).encode(), Head("", "", {}))


@pytest.fixture
def objects() -> Objects:
    """(plural, namespace, name) -> what is stored."""
    return {
        ("serviceaccounts", "shop", "web"): entry("uid-1"),
        ("pods", "shop", "web-0"): entry("pod-uid"),
        ("nodes", "", "n1"): entry("node-uid"),
        ("secrets", "shop", "s"): entry("secret-uid"),
    }


@pytest.fixture
def tokens(tmp_path: Path, objects: Objects) -> ServiceAccountTokens:
    private, public = pki.service_account_key(tmp_path)
    return ServiceAccountTokens(
        ISSUER,
        (ISSUER,),
        load_verifiers(str(public)),
        load_signer(str(private)),
        lambda plural, namespace, name: objects.get((plural, namespace, name)),
    )


def issue(tokens: ServiceAccountTokens, subject: TokenSubject = WEB, lifetime_s: int = 600) -> str:
    return tokens.issue(subject, audiences=(), lifetime=Lifetime(lifetime_s), now=int(time.time()))


def user_of(tokens: ServiceAccountTokens, token: str, now: float | None = None, *audiences: str) -> User:
    found = tokens.authenticate(token, time.time() if now is None else now, audiences)
    assert found is not None
    return found[0]


def test_certificate_gives_name_and_groups() -> None:
    subject = ((("organizationName", "a"),), (("organizationName", "b"),), (("commonName", "kim"),))
    user = Authenticator().authenticate(subject=subject_of({"subject": subject}))
    assert user == User("kim", ("a", "b", "system:authenticated"))


def test_nothing_is_anonymous_and_an_unknown_token_is_refused() -> None:
    assert Authenticator().authenticate() is ANONYMOUS_USER
    with pytest.raises(Unauthorized):
        Authenticator().authenticate(token="nobody's")


def test_token_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text('# comment\nabc,kim,u1,"system:masters,ops"\ndef,pat,u2\n')
    authenticator = Authenticator(load_token_file(str(path)))
    assert authenticator.authenticate(token="abc").groups == ("system:masters", "ops", "system:authenticated")
    assert authenticator.authenticate(token="def").name == "pat"


@pytest.mark.parametrize("text", ["abc,kim\n", ",kim,u1\n"])
def test_a_short_line_of_the_token_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match="line 1: expected token,user,uid"):
        load_token_file(str(path))


def test_a_service_account_token_names_its_account(tokens: ServiceAccountTokens) -> None:
    user = user_of(tokens, issue(tokens))
    assert user.name == "system:serviceaccount:shop:web"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated")
    assert user.uid == "uid-1"


def test_a_token_ends_with_its_time_and_a_minute(tokens: ServiceAccountTokens) -> None:
    token = issue(tokens, lifetime_s=600)
    assert user_of(tokens, token, time.time() + 650)
    with pytest.raises(InvalidToken, match="service account token has expired"):
        tokens.authenticate(token, time.time() + 662)
    with pytest.raises(InvalidToken, match="not valid yet"):
        tokens.authenticate(token, time.time() - 100)


BOUND = {
    "Pod": (Binding("Pod", "web-0", "pod-uid"), ("pods", "shop", "web-0")),
    "Node": (Binding("Node", "n1", "node-uid"), ("nodes", "", "n1")),
    "Secret": (Binding("Secret", "s", "secret-uid"), ("secrets", "shop", "s")),
}


@pytest.mark.parametrize("kind", BOUND)
def test_a_token_ends_with_the_object_it_is_bound_to(tokens: ServiceAccountTokens, objects: Objects, kind: str) -> None:
    binding, place = BOUND[kind]
    token = issue(tokens, TokenSubject("shop", "web", "uid-1", binding))
    extra = user_of(tokens, token).extra
    shown = {key.rpartition("/")[2]: values for key, values in extra.items() if not key.endswith("credential-id")}
    named = {f"{kind.lower()}-name": (binding.name,), f"{kind.lower()}-uid": (binding.uid,)}
    assert shown == ({} if kind == "Secret" else named)
    objects[place] = entry(binding.uid, deleted_s_ago=30)
    assert user_of(tokens, token), "an object that ends takes its tokens along after a minute"
    objects[place] = entry(binding.uid, deleted_s_ago=90)
    with pytest.raises(InvalidToken, match="service account token has been invalidated"):
        tokens.authenticate(token, time.time())
    objects[place] = entry("another")
    text = rf"{kind.lower()} UID \(another\) does not match service account {kind.lower()} ref claim"
    with pytest.raises(InvalidToken, match=text):
        tokens.authenticate(token, time.time())
    del objects[place]
    with pytest.raises(InvalidToken, match="service account token has been invalidated"):
        tokens.authenticate(token, time.time())


def test_a_token_ends_with_its_account(tokens: ServiceAccountTokens, objects: Objects) -> None:
    token, place = issue(tokens), ("serviceaccounts", "shop", "web")
    assert user_of(tokens, token)
    objects[place] = entry("uid-2")
    with pytest.raises(InvalidToken, match=r"service account UID \(uid-2\) does not match claim \(uid-1\)"):
        tokens.authenticate(token, time.time())
    del objects[place]
    with pytest.raises(InvalidToken, match='serviceaccounts "web" not found'):
        tokens.authenticate(token, time.time())


def test_a_token_in_a_secret_has_no_end_but_the_secrets(tokens: ServiceAccountTokens, objects: Objects) -> None:
    assert tokens.signer is not None
    token = sign(legacy_claims("shop", "web", "uid-1", "s"), tokens.signer)

    def secret(text: str, **labels: str) -> Entry:
        metadata = {"uid": "secret-uid", "labels": labels}
        data = {"token": base64.b64encode(text.encode()).decode()}
        body = json.dumps({"metadata": metadata, "data": data}).encode()
        return Entry("key", 1, 1, body, Head("", "", {}))

    place = ("secrets", "shop", "s")
    objects[place] = secret(token)
    user = user_of(tokens, token, time.time() + 10**9)
    assert (user.name, user.extra) == ("system:serviceaccount:shop:web", {})
    objects[place] = secret(token, **{"kubernetes.io/legacy-token-invalid-since": "2026-01-01"})
    with pytest.raises(InvalidToken, match="has been marked invalid"):
        tokens.authenticate(token, time.time())
    objects[place] = secret("another")
    with pytest.raises(InvalidToken, match="Token does not match server's copy"):
        tokens.authenticate(token, time.time())
    del objects[place]
    with pytest.raises(InvalidToken, match="Token has been invalidated"):
        tokens.authenticate(token, time.time())


def test_a_token_tells_when_its_use_is_worth_a_warning(tokens: ServiceAccountTokens) -> None:
    token = tokens.issue(WEB, audiences=(), lifetime=Lifetime(10**6, 3607), now=1000)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["exp"], claims["kubernetes.io"]["warnafter"]) == (1000 + 10**6, 4607)


def test_a_token_of_another_key_or_audience_is_not_good(tokens: ServiceAccountTokens, tmp_path: Path) -> None:
    private, _ = pki.service_account_key(tmp_path / "other")
    forger = ServiceAccountTokens(ISSUER, (ISSUER,), (), load_signer(str(private)), tokens.lookup)
    assert Authenticator(service_accounts=tokens).user_of_token(issue(forger)) is None
    text = r'token audiences \["https://issuer.example"\] is invalid for the target audiences \["vault"\]'
    with pytest.raises(InvalidToken, match=text):
        tokens.authenticate(issue(tokens), time.time(), ("vault",))


def test_a_token_of_another_issuer_is_not_ours(tokens: ServiceAccountTokens) -> None:
    tokens.issuer = "https://other.example"
    token = issue(tokens)
    tokens.issuer = ISSUER
    assert tokens.authenticate(token, time.time()) is None
    assert tokens.authenticate("not a token", time.time()) is None


def test_rsa_keys_work_too_and_jwks_shows_public_parts_only(tmp_path: Path, tokens: ServiceAccountTokens) -> None:
    key = rsa.generate_private_key(65537, 2048)
    path = tmp_path / "rsa.key"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    verifiers = load_verifiers(str(path))
    both = ServiceAccountTokens(
        ISSUER, (ISSUER,), (*tokens.verifiers, *verifiers), load_signer(str(path)), tokens.lookup
    )
    assert both.authenticate(issue(both), time.time())
    shown = jwks(both.verifiers)["keys"]
    assert [key["kty"] for key in shown] == ["EC", "RSA"]
    assert all("d" not in key for key in shown)


def test_a_file_without_keys_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.pem"
    path.write_text("")
    with pytest.raises(ConfigError, match="expected public keys in PEM"):
        load_verifiers(str(path))
    with pytest.raises(ConfigError, match="expected a key in PEM"):
        load_signer(str(path))


def test_a_refusal_says_who_may_not_do_what_where() -> None:
    pods, namespaces = (REGISTRY.get("", "v1", plural) for plural in ("pods", "namespaces"))
    assert pods is not None
    assert namespaces is not None
    text, details = refusal(Request(ANONYMOUS_USER, "get", pods, "shop", "web", "log"))
    assert details == {"name": "web", "kind": "pods"}
    assert text == (
        'pods "web" is forbidden: User "system:anonymous" cannot get resource "pods/log" in API group "" '
        'in the namespace "shop"'
    )
    text, _ = refusal(Request(User("<x>"), "get", namespaces, "", "shop"), "because")
    assert text == (
        'namespaces "shop" is forbidden: User "&lt;x&gt;" cannot get resource "namespaces" in API group "" '
        'in the namespace "shop": because'
    )


SECRET = {
    "metadata": {},
    "type": "bootstrap.kubernetes.io/token",
    "data": {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:b,system:bootstrappers:a",
        "expiration": "2030-01-01T00:00:00Z",
    },
}


@pytest.mark.parametrize(
    ("change", "good"),
    [
        pytest.param({}, True, id="as it should be"),
        pytest.param({"token-secret": "0123456789abcdee"}, False, id="another secret"),
        pytest.param({"token-id": "abcdeg"}, False, id="another id"),
        pytest.param({"usage-bootstrap-authentication": "false"}, False, id="not meant for this"),
        pytest.param({"expiration": "2026-01-01T00:00:00Z"}, False, id="over"),
        pytest.param({"expiration": "tomorrow"}, False, id="no time at all"),
        pytest.param({"auth-extra-groups": "system:masters"}, False, id="a group that it may not give"),
    ],
)
def test_a_bootstrap_token(change: dict[str, str], good: bool) -> None:
    data = {**SECRET["data"], **change}  # type: ignore[dict-item]
    stored = SECRET | {"data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}}
    find = bootstraptokens.authenticator({"bootstrap-token-abcdef": stored}.get)
    user = find("abcdef.0123456789abcdef", 1.8e9)
    groups = ("system:bootstrappers", "system:bootstrappers:a", "system:bootstrappers:b", "system:authenticated")
    assert user == (User("system:bootstrap:abcdef", groups) if good else None)
    assert find("abcdef.0123456789ABCDEF", 1.8e9) is None
    assert find("ghijkl.0123456789abcdef", 1.8e9) is None


def test_tokens_of_odd_bytes_are_unknown_not_an_error(tokens: ServiceAccountTokens) -> None:
    for token in ("t\udcff", "tök.e.n", "\ud800"):
        with pytest.raises(Unauthorized):
            Authenticator(service_accounts=tokens).authenticate(token=token)


@pytest.mark.parametrize(
    ("fixed", "asked", "told"),
    [
        pytest.param(False, [ISSUER, "vault"], [ISSUER], id="those of the token that were asked for"),
        pytest.param(False, ["vault"], None, id="a token for others"),
        pytest.param(True, [ISSUER, "vault"], [ISSUER], id="fixed tokens are for this server"),
        pytest.param(True, ["vault"], None, id="and for no other"),
    ],
)
def test_a_review_tells_the_audiences_that_a_token_is_good_for(
    tokens: ServiceAccountTokens, fixed: bool, asked: list[str], told: list[str] | None
) -> None:
    authenticator = Authenticator({token_digest("t"): User("kim", ())}, tokens)
    reviews = Reviews(authenticator, AlwaysAllow())
    kind = next(one for one in REVIEWS if one.kind == "TokenReview")
    spec = {"token": "t" if fixed else issue(tokens), "audiences": asked}
    body = json.dumps({"apiVersion": kind.api_version, "kind": kind.kind, "spec": spec}).encode()
    done = reviews.create(Request(ANONYMOUS_USER, "create", kind), body, "application/json", WriteOptions())
    status = json.loads(done.body)["status"]
    assert (status.get("authenticated", False), status.get("audiences")) == (told is not None, told)
