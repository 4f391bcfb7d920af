"""Who asks: certificates, fixed tokens, tokens of ServiceAccounts."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from apiserver.auth.authenticator import ANONYMOUS_USER, Authenticator, subject_of
from apiserver.auth.authorizer import AlwaysAllowAuthenticated, refusal
from apiserver.auth.serviceaccounts import (
    Binding,
    InvalidToken,
    ServiceAccountTokens,
    TokenSubject,
    jwks,
    load_signer,
    load_verifiers,
)
from apiserver.auth.tokens import load_token_file, token_digest
from apiserver.registry import REGISTRY
from apiserver.request import Request, User, WriteOptions
from apiserver.reviews import REVIEWS, Reviews
from kubarium.machinery import pki
from kubarium.machinery.errors import ConfigError, Unauthorized

ISSUER = "https://issuer.example"
WEB = TokenSubject("shop", "web", "uid-1")


@pytest.fixture
def objects() -> dict[tuple[str, str, str], str]:
    """(plural, namespace, name) -> uid of what is stored."""
    return {("serviceaccounts", "shop", "web"): "uid-1", ("pods", "shop", "web-0"): "pod-uid"}


@pytest.fixture
def tokens(tmp_path: Path, objects: dict[tuple[str, str, str], str]) -> ServiceAccountTokens:
    private, public = pki.service_account_key(tmp_path)
    return ServiceAccountTokens(
        ISSUER,
        (ISSUER,),
        load_verifiers(str(public)),
        load_signer(str(private)),
        lambda plural, namespace, name: objects.get((plural, namespace, name)),
    )


def issue(tokens: ServiceAccountTokens, subject: TokenSubject = WEB, lifetime_s: int = 600) -> str:
    return tokens.issue(subject, audiences=(), lifetime_s=lifetime_s, now=int(time.time()))


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
    user = tokens.authenticate(issue(tokens), time.time())
    assert user is not None
    assert user.name == "system:serviceaccount:shop:web"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated")
    assert user.uid == "uid-1"


def test_a_token_ends_with_its_time(tokens: ServiceAccountTokens) -> None:
    token = issue(tokens, lifetime_s=600)
    assert tokens.authenticate(token, time.time() + 590)
    with pytest.raises(InvalidToken, match="expired"):
        tokens.authenticate(token, time.time() + 601)


def test_a_token_ends_with_the_objects_it_is_bound_to(
    tokens: ServiceAccountTokens, objects: dict[tuple[str, str, str], str]
) -> None:
    token = issue(tokens, TokenSubject("shop", "web", "uid-1", Binding("Pod", "web-0", "pod-uid")))
    user = tokens.authenticate(token, time.time())
    assert user is not None
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("web-0",)
    objects["pods", "shop", "web-0"] = "another pod of that name"
    with pytest.raises(InvalidToken, match="pod the token is bound to"):
        tokens.authenticate(token, time.time())
    del objects["serviceaccounts", "shop", "web"]
    with pytest.raises(InvalidToken, match="service account has been deleted"):
        tokens.authenticate(token, time.time())


def test_a_token_of_another_key_or_audience_is_not_good(tokens: ServiceAccountTokens, tmp_path: Path) -> None:
    private, _ = pki.service_account_key(tmp_path / "other")
    forger = ServiceAccountTokens(ISSUER, (ISSUER,), (), load_signer(str(private)), tokens.uid_of)
    assert Authenticator(service_accounts=tokens).user_of_token(issue(forger)) is None
    with pytest.raises(InvalidToken, match="audience"):
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
        ISSUER, (ISSUER,), (*tokens.verifiers, *verifiers), load_signer(str(path)), tokens.uid_of
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


def test_anonymous_may_ask_for_health_and_version_only() -> None:
    authorizer = AlwaysAllowAuthenticated()
    pods = REGISTRY.get("", "v1", "pods")
    assert pods is not None
    assert not authorizer.authorize(Request(ANONYMOUS_USER, "list", pods)).allowed
    assert authorizer.authorize_path(ANONYMOUS_USER, "get", "/readyz/ping").allowed
    assert authorizer.authorize_path(ANONYMOUS_USER, "get", "/version").allowed
    assert not authorizer.authorize_path(ANONYMOUS_USER, "get", "/metrics").allowed
    assert not authorizer.authorize_path(ANONYMOUS_USER, "post", "/version").allowed
    text, _ = refusal(Request(ANONYMOUS_USER, "get", pods, "shop", "web", "log"))
    assert text == (
        'pods "web" is forbidden: User "system:anonymous" cannot get resource "pods/log" in API group "" '
        'in the namespace "shop"'
    )


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
    reviews = Reviews(authenticator, AlwaysAllowAuthenticated(), REGISTRY)
    kind = next(one for one in REVIEWS if one.kind == "TokenReview")
    spec = {"token": "t" if fixed else issue(tokens), "audiences": asked}
    body = json.dumps({"apiVersion": kind.api_version, "kind": kind.kind, "spec": spec}).encode()
    done = reviews.create(Request(ANONYMOUS_USER, "create", kind), body, "application/json", WriteOptions())
    status = json.loads(done.body)["status"]
    assert (status.get("authenticated", False), status.get("audiences")) == (told is not None, told)
