"""Signing up, in and out, and setting a new password, as a browser does it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.account.models import EmailAddress, EmailConfirmationHMAC
from django.contrib.auth.tokens import default_token_generator
from django.core import mail
from django.test import Client

from accounts import signals, users
from accounts.models import Membership, Organization, User
from config import settings as config_settings
from tests.people import PASSWORD, sign_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def announced() -> Iterator[list[dict[str, Any]]]:
    """Every sign-up announced to the other rooms."""
    seen: list[dict[str, Any]] = []

    def listen(sender: Any, **arguments: Any) -> None:
        seen.append(arguments)

    signals.signed_up.connect(listen)
    yield seen
    signals.signed_up.disconnect(listen)


def _link(message: Any, part: str) -> str:
    """The path of the link in a mail, which must lead to this server as the settings name it."""
    found = re.search(rf"^http://127\.0\.0\.1:8000(/accounts/{part}\S+)$", message.body, re.MULTILINE)
    assert found, message.body
    return found[1]


def _sign_up(client: Client, email: str = "Dora@Example.com") -> str:
    response = client.post("/accounts/signup/", {"email": email, "password1": PASSWORD})
    assert response.status_code == 302
    assert response["Location"] == "/accounts/confirm-email/"
    assert client.get(response["Location"]).status_code == 200
    return _link(mail.outbox[-1], "confirm-email/")


def _log_in(client: Client, email: str, password: str = PASSWORD) -> Any:
    return client.post("/accounts/login/", {"login": email, "password": password})


def _told(page: Any) -> str:
    """What the notice above a form says, as it is read; nothing where there is none."""
    found = re.search(r'<div class="notice notice-bad" role="alert">(.*?)</div>', page.content.decode(), re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", found[1])).strip() if found else ""


def test_it_signs_up_verifies_and_logs_in(client: Client, announced: list[dict[str, Any]]) -> None:
    link = _sign_up(client)
    assert not Organization.objects.exists()
    assert client.get("/app").status_code == 302

    assert b"dora@example.com" in client.get(link).content
    assert not Organization.objects.exists(), "looking at the link, as mail scanners do, confirms nothing"
    client.post(link)
    dora = User.objects.get(email="dora@example.com")
    organization = Organization.objects.get()
    assert Membership.objects.get(user=dora, organization=organization).role == "owner"
    assert [(item["user"], item["organization"]) for item in announced] == [(dora, organization)]

    response = _log_in(Client(), "DORA@example.com")
    assert (response.status_code, response["Location"]) == (302, "/app")


def test_it_hashes_passwords_with_argon2(client: Client) -> None:
    _sign_up(client)
    assert User.objects.get().password.startswith("argon2")
    assert config_settings.PASSWORD_HASHERS == ["django.contrib.auth.hashers.Argon2PasswordHasher"]


def test_it_makes_one_organization_however_often_the_link_is_used(
    client: Client, announced: list[dict[str, Any]]
) -> None:
    link = _sign_up(client)
    for _ in range(3):
        client.post(link)
    assert Organization.objects.count() == 1
    assert len(announced) == 1


def test_it_makes_no_second_organization_for_a_second_address(
    alice: User, organization: Organization, announced: list[dict[str, Any]]
) -> None:
    address = EmailAddress.objects.create(user=alice, email="alice@work.example")
    Client().post(_confirmation_of(address))
    assert EmailAddress.objects.get(pk=address.pk).verified
    assert Membership.objects.filter(user=alice).count() == 1
    assert announced == []


def _confirmation_of(address: EmailAddress) -> str:
    return f"/accounts/confirm-email/{EmailConfirmationHMAC.create(address).key}/"


def test_it_lets_nobody_in_before_the_address_is_verified(client: Client) -> None:
    _sign_up(client)
    browser = Client()
    assert _log_in(browser, "dora@example.com")["Location"] == "/accounts/confirm-email/"
    assert browser.get("/app")["Location"].startswith("/accounts/login/")


def test_it_does_not_tell_who_has_an_account(alice: User) -> None:
    for email in ("alice@example.com", "new@example.com"):
        response = Client().post("/accounts/signup/", {"email": email, "password1": PASSWORD})
        assert (response.status_code, response["Location"]) == (302, "/accounts/confirm-email/")
    assert "already" in mail.outbox[0].subject
    pages = [Client().post("/accounts/password/reset/", {"email": email}) for email in ("alice@example.com", "x@y.zz")]
    assert [(page.status_code, page["Location"]) for page in pages] == [(302, "/accounts/password/reset/done/")] * 2


@pytest.mark.parametrize("email", ["", "nobody", "a@b", "a b@example.com", "x" * 300 + "@example.com", "nul\0@x.com"])
def test_it_refuses_what_is_no_address(client: Client, email: str) -> None:
    response = client.post("/accounts/signup/", {"email": email, "password1": PASSWORD})
    assert response.status_code == 200
    assert b'aria-invalid="true"' in response.content
    assert not User.objects.exists()


@pytest.mark.parametrize("password", ["", "short", "password", "12345678901", "dora@example.com"])
def test_it_refuses_a_weak_password(client: Client, password: str) -> None:
    response = client.post("/accounts/signup/", {"email": "dora@example.com", "password1": password})
    assert response.status_code == 200
    assert not User.objects.exists()


def test_it_takes_two_spellings_for_one_person(client: Client) -> None:
    client.post(_sign_up(client, "Dora@Example.com"))
    for spelling in ("DORA@EXAMPLE.COM", " dora@example.com ", "dor\uff41@example.com"):
        Client().post("/accounts/signup/", {"email": spelling, "password1": PASSWORD})
    assert User.objects.count() == 1


def test_it_sends_links_to_this_server_whatever_the_host_header_says(client: Client, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    client.post(
        "/accounts/signup/", {"email": "dora@example.com", "password1": PASSWORD}, headers={"Host": "evil.example"}
    )
    client.post("/accounts/password/reset/", {"email": "dora@example.com"}, headers={"Host": "evil.example"})
    assert len(mail.outbox) == 2
    assert "evil.example" not in "".join(f"{message.subject}{message.body}" for message in mail.outbox)


def test_it_answers_a_wrong_password_and_an_unknown_person_alike(alice: User) -> None:
    alice.set_password(PASSWORD)
    alice.save()
    pages = [_log_in(Client(), email, "wrong") for email in ("alice@example.com", "nobody@example.com")]
    assert [page.status_code for page in pages] == [200, 200]
    errors = [_told(page) for page in pages]
    assert errors[0] == errors[1]
    assert errors[0]


def test_it_stops_guessing_after_a_few_tries_in_any_spelling(alice: User) -> None:
    alice.set_password(PASSWORD)
    alice.save()
    spellings = ("alice@example.com", "ALICE@example.com", "\uff41lice@example.com", "Alice@Example.Com")
    pages = [_log_in(Client(), spellings[number % len(spellings)], "wrong") for number in range(12)]
    assert "Too many" in _told(pages[-1])
    page = _log_in(Client(), "alice@example.com")
    assert page.status_code == 200, "during the pause the right password does not work either"


def test_it_logs_out_by_post_only(alice: User) -> None:
    client = sign_in(alice)
    client.get("/accounts/logout/")
    assert "_auth_user_id" in client.session
    client.post("/accounts/logout/")
    assert "_auth_user_id" not in client.session


def test_it_changes_the_session_at_login(alice: User) -> None:
    alice.set_password(PASSWORD)
    alice.save()
    client = Client()
    client.get("/accounts/login/")
    session = client.session
    session["before"] = True
    session.save()
    planted = str(session.session_key)
    client.cookies["sessionid"] = planted
    assert _log_in(client, "alice@example.com").status_code == 302
    assert client.session.session_key != planted


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_it_goes_nowhere_else_after_login(alice: User, target: str) -> None:
    alice.set_password(PASSWORD)
    alice.save()
    response = Client().post("/accounts/login/", {"login": "alice@example.com", "password": PASSWORD, "next": target})
    assert response["Location"] == "/app"


def _reset_link(email: str) -> str:
    mail.outbox.clear()
    Client().post("/accounts/password/reset/", {"email": email})
    return _link(mail.outbox[0], "password/reset/key/")


def _set_password(link: str, password: str) -> int:
    """Follow a reset link and try to set a password; the final status."""
    client = Client()
    form = client.get(link, follow=True)
    form_path = form.redirect_chain[-1][0] if form.redirect_chain else link
    return client.post(form_path, {"password1": password, "password2": password}).status_code


NEW = "an entirely different phrase"


def test_it_sets_a_new_password_by_mail_once(alice: User) -> None:
    link = _reset_link("ALICE@example.com")
    assert mail.outbox[0].to == ["alice@example.com"]
    assert _set_password(link, NEW) == 302
    alice.refresh_from_db()
    assert alice.check_password(NEW)
    _set_password(link, "and yet another one")
    alice.refresh_from_db()
    assert alice.check_password(NEW), "a used link sets nothing"


def test_it_gives_an_operators_user_their_first_password(db: None) -> None:
    dora = users.find_or_create("dora@example.com")
    assert _set_password(_reset_link("dora@example.com"), NEW) == 302
    dora.refresh_from_db()
    assert dora.check_password(NEW)


@pytest.mark.parametrize(
    "token", ["", "null", "None", "0", "undefined", "set-password", "[]", "%00", "x" * 500, "cab-0", "é", "' OR 1=1"]
)
def test_it_sets_no_password_with_a_made_up_token(alice: User, token: str) -> None:
    alice.set_password(PASSWORD)
    alice.save()
    uid = _reset_link("alice@example.com").split("/key/")[1].partition("-")[0]
    for path in (f"/accounts/password/reset/key/{uid}-{token}/", f"/accounts/password/reset/key/{token}/"):
        assert _set_password(path, NEW) in (200, 404, 405)
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


def test_it_sets_no_password_with_another_persons_token(alice: User, charlie: User) -> None:
    theirs = _reset_link("charlie@example.net").split("/key/")[1]
    mine = _reset_link("alice@example.com").split("/key/")[1]
    mixed = f"{mine.partition('-')[0]}-{theirs.partition('-')[2]}"
    _set_password(f"/accounts/password/reset/key/{mixed}", NEW)
    alice.refresh_from_db()
    charlie.refresh_from_db()
    assert not alice.check_password(NEW)
    assert not charlie.check_password(NEW)


def test_it_sets_no_password_with_an_expired_token(alice: User, settings: Any) -> None:
    link = _reset_link("alice@example.com")
    settings.PASSWORD_RESET_TIMEOUT = -1
    _set_password(link, NEW)
    alice.refresh_from_db()
    assert not alice.check_password(NEW)


def test_it_sets_no_password_with_djangos_own_token(alice: User) -> None:
    uid = _reset_link("alice@example.com").split("/key/")[1].partition("-")[0]
    _set_password(f"/accounts/password/reset/key/{uid}-{default_token_generator.make_token(alice)}/", NEW)
    alice.refresh_from_db()
    assert not alice.check_password(NEW)


def test_it_sends_the_reset_to_the_address_we_know_not_to_a_look_alike() -> None:
    # U+212A, the Kelvin sign, is a letter k to case folding, and to a mail server another mailbox.
    users.create_verified("mike@example.org")
    Client().post("/accounts/password/reset/", {"email": "mi\u212ae@example.org"})
    assert [message.to for message in mail.outbox] == [["mike@example.org"]]


@pytest.mark.parametrize("key", ["null", "MQ:xxx:yyy", "Mg", "0", "-", "a" * 300])
def test_it_confirms_no_address_with_a_made_up_key(client: Client, key: str) -> None:
    _sign_up(client)
    response = Client().post(f"/accounts/confirm-email/{key}/")
    assert response.status_code in (200, 302, 404)
    assert not EmailAddress.objects.filter(verified=True).exists()


def test_it_shows_every_page_in_our_skin(alice: User) -> None:
    alice.set_password(PASSWORD)
    alice.save()
    visitor, member = Client(), sign_in(alice)
    for path in ("login", "signup", "password/reset", "password/reset/done", "inactive", "confirm-email"):
        _in_our_skin(visitor.get(f"/accounts/{path}/"))
    _in_our_skin(visitor.get("/accounts/confirm-email/nonsense/"))
    _in_our_skin(visitor.get("/accounts/password/reset/key/1-nonsense/"))
    for path in ("email", "password/change", "logout", "reauthenticate"):
        response = member.get(f"/accounts/{path}/")
        _in_our_skin(response)
        assert "no-store" in response["Cache-Control"]


def _in_our_skin(response: Any) -> None:
    page = response.content.decode()
    assert response.status_code == 200
    assert 'class="logo"' in page
    assert page.count("<h1") == 1
    assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|<style|\son\w+=", page), "inline script or style"
