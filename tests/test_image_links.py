"""I9 and A13: a signed link opens one image for its time, and no signature fits another lock."""

from __future__ import annotations

import ast
import itertools
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
import time_machine
from allauth.account.models import EmailAddress, EmailConfirmationHMAC
from django.conf import settings as django_settings
from django.contrib.auth.tokens import default_token_generator
from django.core import signing
from django.test import Client
from django.utils import timezone

from accounts.models import Organization, User
from core import crypto, ids
from imagesapi import links
from imagesapi.models import Image
from tests import sources
from tests.money import fund
from tests.people import IssuedKey

# What signs or hashes under the server's secret, and the one file each purpose belongs to.
PURPOSES = {
    "api-key": "accounts/keys.py",
    "image-link": "imagesapi/links.py",
    "encryption": "platform/core/crypto.py",
    "encryption-id": "platform/core/crypto.py",
    "daily-count": "billing/daily_counts.py",
    "signup-mailbox": "billing/signup_credit.py",
    "top-up-address": "billing/top_ups.py",
}


@pytest.fixture
def images(organization: Organization, api_key: IssuedKey, client: Client) -> list[Image]:
    """Two images, made through the API."""
    body = {"model": "mock-image", "prompt": "a red fox", "size": "16x16", "n": 2}
    fund(organization, promo_nanos=1_000_000_000)
    answer = client.post("/v1/images/generations", body, content_type="application/json", headers=api_key.headers)
    assert answer.status_code == 200, answer.content
    return list(Image.objects.order_by("position"))


@pytest.fixture
def link(images: list[Image]) -> str:
    return links.make(images[0].pk, expires_at_s=int(time.time()) + 600).removeprefix(django_settings.BASE_URL)


def _get(address: str, **headers: str) -> tuple[int, bytes]:
    response = Client().get(address, headers=headers)
    return response.status_code, b"".join(response) if response.streaming else response.content


def _split(link: str) -> tuple[str, list[tuple[str, str]]]:
    path, _, query = link.partition("?")
    return path, parse_qsl(query)


def test_it_opens_for_whoever_has_the_link(link: str, other_api_key: IssuedKey) -> None:
    status, picture = _get(link)
    assert (status, picture[:4]) == (200, b"\x89PNG")
    for stray in ("Bearer sk-of-another-service", "Basic Og==", "Bearer", other_api_key.headers["Authorization"]):
        assert _get(link, Authorization=stray) == (200, picture)
    assert _get(link.removeprefix("/openai")) == (200, picture)


def test_it_opens_by_key_for_its_organization_only(link: str, api_key: IssuedKey, other_api_key: IssuedKey) -> None:
    path, _ = _split(link)
    assert _get(path, **api_key.headers)[0] == 200
    assert _get(path)[0] == 401
    status, foreign = _get(path, **other_api_key.headers)
    missing_word = ids.public("img", ids.new())
    missing = _get(f"/openai/v1/images/{missing_word}/content", **other_api_key.headers)[1]
    assert status == 404
    assert foreign.replace(path.split("/")[4].encode(), b"") == missing.replace(missing_word.encode(), b"")


def _changed(text: str) -> Iterator[str]:
    """Every text that differs from this one in one letter."""
    for position, letter in enumerate(text):
        other = "1" if letter != "1" else "0"
        yield f"{text[:position]}{other}{text[position + 1 :]}"


def test_it_refuses_every_changed_letter(link: str) -> None:
    path, ((_, expires), (_, signature)) = _split(link)
    word = path.split("/")[4]
    for value in (word, expires, signature):
        for other in _changed(value):
            assert _get(link.replace(value, other))[0] == 403, other


def test_it_refuses_dropped_doubled_added_and_reordered_parameters(link: str, api_key: IssuedKey) -> None:
    path, pairs = _split(link)
    expires, signature = pairs
    later = ("expires", str(int(expires[1]) + 1))
    queries = [
        [expires], [signature], [expires, expires, signature], [expires, signature, signature],
        [later, signature], [later, expires, signature], [expires, later, signature], [expires, signature, later],
        [signature, expires], [expires, signature, ("x", "1")], [("expires", ""), signature],
        [expires, ("signature", "")],
        [("expires", f"0{expires[1]}"), signature], [("expires", f" {expires[1]}"), signature],
        [("expires", f"{expires[1]}.0"), signature], [("expires", "-1"), signature], [("expires", "9" * 12), signature],
        [("expires", "٢" * 10), signature], [expires, ("signature", f"{signature[1]}=")],
        [expires, ("signature", signature[1].swapcase())], [expires, ("signature", "\0")],
        [expires, ("signature", "é")],
    ]  # fmt: skip
    for query in queries:
        for headers in ({}, api_key.headers):
            assert _get(f"{path}?{urlencode(query)}", **headers)[0] == 403, query


def test_it_refuses_another_image_and_another_spelling(link: str, images: list[Image]) -> None:
    word, other = (ids.public("img", image.pk) for image in images)
    assert _get(link)[0] == 200
    assert _get(link.replace(word, other))[0] == 403
    assert _get(link.replace(word, word.upper()))[0] == 403
    assert _get(link.replace(word, f"{word}%00"))[0] == 403
    assert _get(link.replace("/content", "/Content"))[0] == 404
    never = ids.new()
    missing = links.make(never, expires_at_s=int(time.time()) + 60).removeprefix(django_settings.BASE_URL)
    assert _get(missing)[0] == 403


def test_it_ends_on_the_second(images: list[Image]) -> None:
    expires_at_s = int(time.time()) + 60
    link = links.make(images[0].pk, expires_at_s=expires_at_s).removeprefix(django_settings.BASE_URL)
    for offset_s, status in ((-1, 200), (0, 403), (1, 403)):
        with time_machine.travel(expires_at_s + offset_s, tick=False):
            assert _get(link)[0] == status, offset_s


def test_it_ends_with_the_image_and_with_the_organization(
    link: str, images: list[Image], organization: Organization, api_key: IssuedKey
) -> None:
    organization.suspended_at = timezone.now()
    organization.save()
    assert _get(link)[0] == 403
    assert _get(_split(link)[0], **api_key.headers)[0] == 403
    organization.suspended_at = None
    organization.save()
    assert _get(link)[0] == 200
    Image.objects.filter(pk=images[0].pk).update(deleted_at=timezone.now())
    assert _get(link)[0] == 403


def test_it_refuses_a_signature_made_for_anything_else(link: str, settings: Any, alice: User) -> None:
    path, ((_, expires), (_, signature)) = _split(link)
    word = path.split("/")[4]
    message = f"{word}:{expires}"
    foreign = [crypto.sign(purpose, message) for purpose in PURPOSES if purpose != "image-link"]
    foreign += [crypto.sign("image-link", text) for text in (word, expires, f"{word}{expires}", f"{expires}:{word}")]
    foreign += [
        signing.Signer(salt=salt).signature(message) for salt in ("image-link", "pixelpar/image-link", "account")
    ]
    foreign += [default_token_generator.make_token(alice), signing.dumps(message, salt="image-link")]
    for other in foreign:
        assert _get(f"{path}?{urlencode({'expires': expires, 'signature': other})}")[0] == 403, other
    settings.SECRET_KEY = "another server's secret" * 3
    assert _get(link)[0] == 403
    assert signature not in foreign


def test_its_signature_confirms_no_address_and_resets_no_password(link: str, alice: User) -> None:
    signature = _split(link)[1][1][1]
    address = EmailAddress.objects.create(user=alice, email="second@example.com")
    good = EmailConfirmationHMAC.create(address).key
    for key in (signature, good.rpartition(":")[0] + f":{signature}", signing.dumps(address.pk, salt="image-link")):
        Client().post(f"/accounts/confirm-email/{key}/")
    assert not EmailAddress.objects.get(pk=address.pk).verified
    assert not default_token_generator.check_token(alice, signature)
    assert not default_token_generator.check_token(alice, good)
    assert EmailConfirmationHMAC.from_key(default_token_generator.make_token(alice)) is None


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(PURPOSES, 2)))
def test_it_accepts_no_signature_across_purposes(one: str, other: str) -> None:
    assert crypto.verify(one, "message", crypto.sign(one, "message"))
    assert not crypto.verify(other, "message", crypto.sign(one, "message"))
    assert crypto.keyed_hash(one, b"message") != crypto.keyed_hash(other, b"message")


def _purposes_in_the_code() -> Iterator[tuple[str, str]]:
    """Every purpose that the code passes to core.crypto, with the file that does."""
    for module in sources.product(migrations=True):
        constants = {
            target.id: node.value.value
            for node in sources.nodes(module.tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call, called in sources.calls(module):
            if call.args and called in ("crypto.sign", "crypto.verify", "crypto.keyed_hash", "_derive"):
                first = call.args[0]
                found = first.value if isinstance(first, ast.Constant) else constants.get(ast.unparse(first))
                if found is not None or called != "_derive":
                    yield str(found), module.path


def test_it_knows_every_purpose_and_where_it_belongs() -> None:
    found = set(_purposes_in_the_code())
    assert dict(found) == PURPOSES, "a new purpose goes into PURPOSES, and into one file only"
    assert len(found) == len(PURPOSES)
