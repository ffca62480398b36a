"""Organizations for the isolation sweep, with their people and a real thing of every kind, and words for none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.test import Client

from accounts import organizations, users
from accounts.models import ApiKey, Organization, Role, User
from billing import budgets, ledger
from billing.stripe_models import StripeCustomer, TopUp
from core import ids
from imagesapi import own_keys, webhooks
from imagesapi.models import Generation
from imagesapi.webhook_models import WebhookDelivery
from tests.bodies import read
from tests.people import IssuedKey, issue

PROMPT = "a lighthouse of {tenant}"
# A word of each kind that was never given out.
KINDS: dict[str, Callable[[], str]] = {
    "request": lambda: ids.public("req", ids.new()),
    "image": lambda: ids.public("img", ids.new()),
    "key": ApiKey.new_public_id,
    "webhook": lambda: ids.public("whk", ids.new()),
    "delivery": lambda: ids.public("whd", ids.new()),
    "provider_key": lambda: ids.public("pky", ids.new()),
    "organization": lambda: f"nobody-{ids.token(6)}",
    "model": lambda: f"no-model-{ids.token(6)}",
    "top_up": lambda: ids.public("top", ids.new()),
    "balance": lambda: "0.000000001",
    "budget": lambda: "0.000000002",
    "member": lambda: f"nobody-{ids.token(6)}@nowhere.example",
    "transaction": lambda: f"{ids.public('txn', ids.new())}_grant",
}


@dataclass(slots=True)
class Tenant:
    """An organization, its people by role, and the public word of one real thing of every kind."""

    organization: Organization
    people: dict[str, User]
    key: IssuedKey
    words: dict[str, str]
    picture: bytes
    link: str
    secrets: tuple[bytes, ...]


class _Missing(dict[str, str]):
    """Made when it is asked for: most routes take one word of fourteen."""

    def __missing__(self, kind: str) -> str:
        self[kind] = KINDS[kind]()
        return self[kind]


def missing() -> Mapping[str, str]:
    """One word of each kind that names nothing."""
    return _Missing()


def build_tenant(name: str, *, dollars: str) -> Tenant:
    """An organization with five people, money, two keys, a request and its image, all made through the product."""
    slug = name.lower()
    people = {role: users.create_verified(f"{role}@{slug}.example", name=f"{role} at {name}") for role in Role.values}
    organization = organizations.create(name, owner=people[Role.OWNER])
    for role, person in people.items():
        organizations.add_member(organization, user=person, role=role)
    ledger.grant(
        organization.pk, amount_nanos=int(dollars.replace(".", "")) * 1000, reason="sweep", reference=ids.new()
    )
    key = issue(organization, created_by=people[Role.OWNER], name=f"key of {name}")
    listed = issue(organization, created_by=people[Role.OWNER], name=f"second key of {name}")
    body = {
        "model": "mock-image",
        "size": "16x16",
        "response_format": "url",
        "prompt": PROMPT.format(tenant=name),
        "user": f"user-of-{slug}",
        "metadata": {"order": f"order-of-{slug}"},
    }
    answer = Client().post("/v1/images/generations", body, content_type="application/json", headers=key.headers)
    assert answer.status_code == 200, answer.content
    document = answer.json()
    link = document["data"][0]["url"].removeprefix("http://127.0.0.1:8000")
    cap = f"{dollars}99"
    budgets.set_for_organization(organization, {"spend_month_usd": cap})
    webhook, signing_secret = webhooks.create(
        organization.pk, url=f"https://{slug}.example/hook", events=["request.completed"], description=f"of {name}"
    )
    words = {
        "webhook": ids.public("whk", webhook.pk),
        "delivery": _told(document["id"]),
        "request": document["id"],
        "image": link.split("/")[4],
        "key": listed.row.public_id,
        "provider_key": ids.public(
            "pky", own_keys.store(organization.pk, provider="openai", secret=f"sk-of-{slug}-0123456789").pk
        ),
        "organization": organization.slug,
        "model": "mock-image",
        "top_up": _waiting_top_up(organization).word,
        "balance": dollars,
        "budget": cap,
        "member": people[Role.DEVELOPER].email,
        "transaction": Client().get("/v1/transactions", headers=key.headers).json()["data"][0]["id"],
    }
    picture = read(Client().get(link))
    texts = [name, slug, *(person.email for person in people.values()), key.row.public_id, key.raw, listed.raw]
    texts += [signing_secret, *(word for kind, word in words.items() if kind != "model")]
    return Tenant(organization, people, key, words, picture, link, (*(text.encode() for text in texts), picture))


def _waiting_top_up(organization: Organization) -> TopUp:
    """One that its bank wants confirmed, so that every page about top-ups has something to say."""
    StripeCustomer.objects.create(organization=organization, stripe_id=f"cus_of_{organization.slug}")
    return TopUp.objects.create(
        organization=organization,
        origin="automatic",
        state="action",
        amount_nanos=25 * 10**9,
        payment_intent=f"pi_of_{organization.slug}",
    )


def _told(request: str) -> str:
    """The delivery to the organization's webhook that is made when such a request has ended."""
    rows = Generation.objects.filter(pk=ids.parse("req", request) or "")
    rows.update(is_async=True)
    assert webhooks.announce(rows.get().pk) == 1
    return ids.public("whd", WebhookDelivery.objects.get(generation=rows.get()).pk)
