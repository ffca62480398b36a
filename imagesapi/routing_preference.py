"""The request's own `provider` object: whom to try first, only, or not at all, and how to sort the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core import errors
from imagesapi.values import Offer, Preference

LISTS = ("order", "only", "ignore")
SORTS = ("price", "latency")
_KNOWN = (*LISTS, "sort")
SLUGS_MAX = 32
SLUG_MAX_CHARS = 64
NO_PREFERENCE = Preference()


def parse(value: Any) -> Preference:
    """The object as a value; None is no preference. Whether the providers exist is for `check` to say.

    Raises InvalidRequest, naming the member that is wrong and what it takes.
    """
    if value is None:
        return NO_PREFERENCE
    if not isinstance(value, dict):
        raise _wrong("provider", 'an object such as {"order": ["openai"], "sort": "price"}')
    for name in value:
        if name not in _KNOWN:
            raise errors.UnknownParameter(
                f"'provider' has no member {str(name)[:64]!r}; it takes {', '.join(_KNOWN)}.", param="provider"
            )
    sort = value.get("sort")
    if sort is not None and sort not in SORTS:
        raise errors.InvalidRequest(f"'provider.sort' must be {' or '.join(SORTS)}.", param="provider.sort")
    order, only, ignore = (_slugs(name, value.get(name)) for name in LISTS)
    return Preference(order=order, only=only, ignore=ignore, sort=sort)


def check(preference: Preference, known: Iterable[str]) -> None:
    """Raise InvalidRequest for a slug that no provider has, naming those there are."""
    known = frozenset(known)
    for name in LISTS:
        for slug in getattr(preference, name):
            if slug not in known:
                raise errors.InvalidRequest(
                    f"'provider.{name}' names {slug!r}; the providers here are {', '.join(sorted(known))}.",
                    param=f"provider.{name}",
                )


def allows(preference: Preference, offer: Offer) -> bool:
    """Whether `only` and `ignore` leave this offer in."""
    return offer.provider not in preference.ignore and (not preference.only or offer.provider in preference.only)


def nothing_left(model: str, offers: Iterable[Offer]) -> errors.PixelparError:
    """What to say when `only` and `ignore` leave nobody."""
    names = ", ".join(sorted({offer.provider for offer in offers}))
    return errors.InvalidRequest(
        f"'provider' leaves nobody to serve {model}, which is offered by {names}.", param="provider"
    )


def place(slugs: tuple[str, ...], provider: str) -> int:
    """Where a provider stands in an order; those not named come after all that are."""
    return slugs.index(provider) if provider in slugs else len(slugs)


def _slugs(name: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
        raise _wrong(f"provider.{name}", "an array of provider names")
    if len(value) > SLUGS_MAX or any(len(word) > SLUG_MAX_CHARS for word in value):
        raise errors.InvalidRequest(
            f"'provider.{name}' takes at most {SLUGS_MAX} names of {SLUG_MAX_CHARS} characters.",
            param=f"provider.{name}",
        )
    if name == "only" and not value:
        raise errors.InvalidRequest(
            "'provider.only' is empty, which leaves nobody; leave it out.", param="provider.only"
        )
    return tuple(dict.fromkeys(value))


def _wrong(name: str, wanted: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"'{name}' must be {wanted}.", param=name, code="invalid_type")
