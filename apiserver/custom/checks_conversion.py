"""How a CustomResourceDefinition converts between its versions.

Source: k8s.io/apiextensions-apiserver pkg/apis/apiextensions/validation (texts).
"""

from __future__ import annotations

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults

REVIEW_VERSIONS = ("v1", "v1beta1")


def check_conversion(conversion: Object | None, path: str, faults: Faults) -> None:
    if conversion is None:
        return
    strategy, webhook = conversion.get("strategy") or "", conversion.get("webhook")
    if not strategy:
        faults.required(f"{path}.strategy")
    elif strategy not in ("None", "Webhook"):
        faults.unsupported(f"{path}.strategy", strategy, ("None", "Webhook"))
    client = (webhook or {}).get("clientConfig")
    reviews = (webhook or {}).get("conversionReviewVersions") or []
    if strategy != "Webhook":
        text = "should not be set when strategy is not set to Webhook"
        if client is not None:
            faults.forbidden(f"{path}.webhookClientConfig", text)
        if reviews:
            faults.forbidden(f"{path}.conversionReviewVersions", text)
        return
    at = f"{path}.webhookClientConfig"
    if client is None:
        faults.required(at, "required when strategy is set to Webhook")
    else:
        _check_client(client, at, faults)
    _check_reviews(reviews, f"{path}.conversionReviewVersions", faults)


def _check_client(client: Object, path: str, faults: Faults) -> None:
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        faults.required(path, "exactly one of url or service is required")
        return
    from apiserver.registry import webhooks

    if url is not None:
        webhooks.check_url(url, f"{path}.url", faults)
    elif service is not None:
        webhooks.check_service(service, f"{path}.service", faults)


def _check_reviews(reviews: list[str], path: str, faults: Faults) -> None:
    if not reviews:
        faults.required(path)
        return
    for i, version in enumerate(reviews):
        if version in reviews[:i]:
            faults.invalid(f"{path}[{i}]", version, "duplicate version")
        else:
            faults.each(f"{path}[{i}]", version, names.dns1035_label(version))
    if not set(reviews) & set(REVIEW_VERSIONS):
        faults.invalid(path, reviews, f"must include at least one of {', '.join(REVIEW_VERSIONS)}")
