"""One name for all the ways to write a mailbox, so that one mailbox has one sign-up credit."""

from __future__ import annotations

from django.conf import settings

from accounts.models import normalise_email

# Domains whose mailboxes anybody reads or that end within the hour; the operator adds to them by setting.
DISPOSABLE = frozenset(
    (
        *("10minutemail.com", "10minutemail.net", "20minutemail.com", "33mail.com", "anonaddy.me", "burnermail.io"),
        *("discard.email", "dispostable.com", "dropmail.me", "emailondeck.com", "emailfake.com", "fakeinbox.com"),
        *("fakemail.net", "getairmail.com", "getnada.com", "grr.la", "guerrillamail.com", "guerrillamail.net"),
        *("guerrillamailblock.com", "inboxkitten.com", "mail.tm", "maildrop.cc", "mailcatch.com", "mailinator.com"),
        *("mailnesia.com", "mailnull.com", "mailsac.com", "mintemail.com", "minutemailbox.com", "moakt.com"),
        *("mohmal.com", "mytemp.email", "sharklasers.com", "spam4.me", "spamgourmet.com", "temp-mail.io"),
        *("temp-mail.org", "tempail.com", "tempinbox.com", "tempmail.dev", "tempmail.plus", "tempr.email"),
        *("throwawaymail.com", "trashmail.com", "trashmail.de", "wegwerfemail.de", "yopmail.com", "yopmail.net"),
    )
)
_SAME = {"googlemail.com": "gmail.com"}


def one_name(address: str) -> str | None:
    """The mailbox an address leads to: case, look-alike letters, dots, what follows a plus, and the spelling of the
    domain do not make another one. None for what is no address.

    Dots and plus tags do make another mailbox at some hosts. There a person may miss a credit; nobody gets two.
    """
    local, at, domain = normalise_email(address).rpartition("@")
    local = local.strip('"').partition("+")[0].replace(".", "")
    try:
        domain = domain.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None
    if not at or not local or not domain:
        return None
    return f"{local}@{_SAME.get(domain, domain)}"


def is_disposable(mailbox: str) -> bool:
    """Whether its domain, or one above it, is on the list."""
    labels = mailbox.rpartition("@")[2].split(".")
    above = {".".join(labels[start:]) for start in range(len(labels) - 1)}
    return bool(above & (DISPOSABLE | set(settings.DISPOSABLE_MAIL_DOMAINS)))
