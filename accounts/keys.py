"""API keys: the only place that sees a raw key. What is kept of one is a keyed hash and its last four characters."""

from __future__ import annotations

import datetime as dt
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.db import DatabaseError, transaction
from django.utils import timezone

from accounts import callers, key_limits
from accounts import rules as key_rules
from accounts import scopes as key_scopes
from accounts.callers import Caller
from accounts.models import KEY_ID_LENGTH, ApiKey, Organization, User
from accounts.rules import KeyRules
from core import crypto, outages, sql
from core.errors import InvalidApiKey, InvalidRequest, PermissionDenied

PREFIX = "pxp_"
MAX_ACTIVE_PER_ORGANIZATION = 200
NAME_MAX_CHARS = 80
_SECRET_BYTES = 32
_RAW_MAX_CHARS = 200
# OpenAI's own words: there are clients that know a 401 by them.
_INCORRECT = "Incorrect API key provided"
RAW = re.compile(r"pxp_[0-9a-hjkmnp-tv-z]{12}\.[A-Za-z0-9_-]{43}")

# True in a statement while the key still lets its caller in and is what was read of it; for statements that name it
# %(key_id)s and %(key_version)s.
STILL_VALID = """EXISTS (
    SELECT 1 FROM accounts_apikey k JOIN accounts_organization o ON o.id = k.organization_id
    WHERE k.id = %(key_id)s AND k.version = %(key_version)s AND k.revoked_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > now()) AND o.suspended_at IS NULL
)"""
_RECENT_S = 10.0
_RECENT_MAX = 10_000
_recent: dict[bytes, tuple[float, Caller]] = {}

_TOUCH_EVERY_S = 60.0
_TOUCHES_MAX = 10_000
_touched_at_s: dict[int, float] = {}


def create(
    organization: Organization,
    *,
    name: str,
    created_by: User | None = None,
    expires_at: dt.datetime | None = None,
    scopes: object = None,
    rules: object = None,
    limits: object = None,
    by: ApiKey | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its raw form, which exists nowhere else: show it once.

    Scopes, rules and limits are documents as callers write them; None is the default. `by` is the key that makes it:
    it gives nothing that it has not, and its end is the new key's end at the latest. Raises InvalidRequest for a bad
    name, scope, rule or limit, an expiry that has passed, too many keys, or a closed organization; PermissionDenied
    for what `by` may not give.
    """
    if organization.closed_at is not None:
        raise InvalidRequest("The organization is closed: no key of it would be let in.")
    now = timezone.now()
    name = _name(name)
    wanted = _Wanted.parse(scopes, rules, limits)
    if by is not None:
        expires_at = _expires_with(by, expires_at)
        created_by = created_by or by.created_by
    if expires_at is not None and expires_at <= now:
        raise InvalidRequest("A key must expire in the future.", param="expires_at")
    if organization.api_keys.filter(revoked_at=None).count() >= MAX_ACTIVE_PER_ORGANIZATION:
        raise InvalidRequest(
            f"An organization has at most {MAX_ACTIVE_PER_ORGANIZATION} keys: revoke one first.", param="name"
        )
    public_id = ApiKey.new_public_id()
    raw = f"{PREFIX}{public_id}.{secrets.token_urlsafe(_SECRET_BYTES)}"
    key = ApiKey(
        public_id=public_id,
        organization=organization,
        created_by=created_by,
        name=name,
        secret_hash=_hash(raw),
        last_four=raw[-4:],
        created_at=now,
        expires_at=expires_at,
        scopes=[],
    )
    with transaction.atomic():
        _apply(key, replace(wanted, scopes=wanted.scopes or key_scopes.DEFAULT), by=by)
    return key, raw


def update(
    key: ApiKey,
    *,
    name: str | None = None,
    scopes: object = None,
    rules: object = None,
    limits: object = None,
    by: ApiKey | None = None,
) -> ApiKey:
    """Change what is given, each whole; from this moment on nothing is spent by what the key was. Raises as `create`
    does."""
    wanted = _Wanted.parse(scopes, rules, limits)
    with transaction.atomic():
        found = ApiKey.objects.select_for_update().get(pk=key.pk)
        if found.revoked_at is not None:
            raise InvalidRequest("This key is revoked: it stays as it was. Make another one.")
        found.version += 1
        found.name = found.name if name is None else _name(name)
        _apply(found, wanted, by=by)
    _recent.pop(bytes(found.secret_hash), None)
    return found


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a key shall be from now on, understood; None leaves it as it is."""

    scopes: tuple[str, ...] | None
    rules: KeyRules | None
    limits: Mapping[str, int] | None

    @classmethod
    def parse(cls, scopes: object, rules: object, limits: object) -> _Wanted:
        return cls(
            scopes=None if scopes is None else key_scopes.parse(scopes),
            rules=None if rules is None else key_rules.parse(rules),
            limits=None if limits is None else key_limits.keeper().parse(limits),
        )


def _apply(key: ApiKey, wanted: _Wanted, *, by: ApiKey | None) -> None:
    """Write the key as wanted, unless it would get more than its maker has, or more than it can be held to."""
    if wanted.scopes is not None:
        added = [scope for scope in wanted.scopes if scope not in key.scopes]
        if by is not None and not set(added) <= set(by.scopes):
            raise PermissionDenied(
                f"A key gives only scopes it has itself, and this one has {', '.join(by.scopes)}.",
                param="scopes",
                code="insufficient_scope",
            )
        key.scopes = list(wanted.scopes)
    if wanted.rules is not None:
        key.rules = wanted.rules.stored()
    limits = wanted.limits
    if limits is None and key.pk is not None:
        limits = {name: cap for name, cap in key_limits.keeper().of([key.pk])[key.pk].items() if cap is not None}
    if key_scopes.KEYS in key.scopes and (limits or key.key_rules.restricts):
        raise InvalidRequest(
            f"A key with the scope {key_scopes.KEYS!r} can have no limits and no rules about models, sizes or "
            "qualities: it could make itself a key without them. Leave out one or the other.",
            param="limits" if limits else "rules",
        )
    key.save()
    if wanted.limits is not None:
        key_limits.keeper().replace(key, wanted.limits)


def _name(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > NAME_MAX_CHARS or not name.isprintable():
        raise InvalidRequest(f"A key needs a name of 1 to {NAME_MAX_CHARS} characters.", param="name")
    return name


def _expires_with(by: ApiKey, expires_at: dt.datetime | None) -> dt.datetime | None:
    if by.expires_at is None:
        return expires_at
    if expires_at is not None and expires_at > by.expires_at:
        raise InvalidRequest(
            f"The key that makes it expires at {int(by.expires_at.timestamp())}; the new one may not outlive it.",
            param="expires_at",
        )
    return expires_at or by.expires_at


def revoke(key: ApiKey) -> None:
    """End a key at once, for good; nothing happens to one that has ended already."""
    now = timezone.now()
    if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=now):
        key.revoked_at = now


def find(word: str) -> ApiKey | None:
    """The key that an operator names by its id, with or without prefix and secret."""
    public_id = word.strip().removeprefix(PREFIX).partition(".")[0]
    if len(public_id) != KEY_ID_LENGTH or not public_id.isascii() or not public_id.isalnum():
        return None
    return ApiKey.objects.select_related("organization").filter(public_id=public_id).first()


def authenticate(raw: str, *, checked_later: bool = False) -> Caller:
    """The caller a raw key stands for, by one indexed lookup of its keyed hash.

    With `checked_later` a lookup of the last seconds will do: the caller promises that its own statement holds
    STILL_VALID, or calls `look_again`, before anything is done in the key's name. Raises InvalidApiKey, or
    PermissionDenied when the organization is suspended. A wrong secret and an unknown id are the same to us and to the
    caller; comparing happens on the hash, of which an outsider can choose no bit.
    """
    if len(raw) > _RAW_MAX_CHARS or not RAW.fullmatch(raw):
        raise InvalidApiKey(
            f"{_INCORRECT}: those of this service look like pxp_<id>.<secret>. Keys of other services do not "
            "work here; create one under /app/keys."
        )
    secret_hash = _hash(raw)
    if checked_later:
        read_at_s, caller = _recent.get(secret_hash, (0.0, None))
        if caller is not None and time.monotonic() - read_at_s < _RECENT_S:
            _touch(caller.key_id)
            return caller
    return _read("k.secret_hash = %(secret_hash)s", {"secret_hash": secret_hash})


def look_again(caller: Caller, *, scope: str | None = None) -> Caller:
    """The same caller as of now. Raises as `authenticate` does, and PermissionDenied when a needed scope is gone."""
    fresh = _read("k.id = %(key_id)s", {"key_id": caller.key_id})
    if scope is not None:
        fresh.require(scope)
    return fresh


def on_behalf(key_id: int | None, *, organization_id: int) -> Caller:
    """The caller of a request that was let in before: what it asked for is done even when its key has ended since.

    Raises PermissionDenied when the organization is suspended or gone, or the key's row is.
    """
    row = sql.row(_lookup("k.id = %(key_id)s AND o.id = %(organization_id)s AND o.suspended_at IS NULL"),
                  {"key_id": key_id, "organization_id": organization_id})  # fmt: skip
    if row is None:
        raise PermissionDenied("The organization is suspended, or the key was removed.", code="organization_suspended")
    return _caller(row)


def _read(condition: str, parameters: dict[str, Any]) -> Caller:
    # SQL by hand: building the same query through the ORM costs several milliseconds of every request.
    row = sql.row(_lookup(condition), parameters)
    if row is None:
        raise InvalidApiKey(f"{_INCORRECT}. Check that it was copied whole.")
    secret_hash, expires_at, revoked_at, suspended_at = row[:4]
    _recent.pop(secret_hash, None)
    if revoked_at is not None:
        raise InvalidApiKey(f"{_INCORRECT}: it was revoked.")
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidApiKey(f"{_INCORRECT}: it has expired.")
    if suspended_at is not None:
        raise PermissionDenied("This organization is suspended.", code="organization_suspended")
    caller = _caller(row)
    _touch(caller.key_id)
    if len(_recent) >= _RECENT_MAX:
        _recent.clear()
    _recent[secret_hash] = (time.monotonic(), caller)
    return caller


def _caller(row: tuple[Any, ...]) -> Caller:
    key_id, public_id, created_by_id, scopes, rules, version = row[4:10]
    organization_id, slug, default_response_format, link_life_minutes = row[10:14]
    return Caller(
        organization_id=organization_id,
        organization_slug=slug,
        key_id=key_id,
        key_public_id=public_id,
        created_by_id=created_by_id,
        default_response_format=default_response_format,
        link_life_minutes=link_life_minutes,
        scopes=frozenset(scopes.split()),
        rules=key_rules.read(rules),
        key_version=version,
        facts=dict(zip(callers.facts(), row[14:], strict=True)),
    )


def _hash(raw: str) -> bytes:
    return crypto.keyed_hash("api-key", raw.encode("ascii"))


_SELECT = """
SELECT k.secret_hash, k.expires_at, k.revoked_at, o.suspended_at,
       k.id, k.public_id, k.created_by_id, array_to_string(k.scopes, ' '), k.rules::text, k.version,
       o.id, o.slug, o.default_response_format, o.link_life_minutes
"""
_FROM = """
FROM accounts_apikey k JOIN accounts_organization o ON o.id = k.organization_id
"""


def _lookup(condition: str) -> str:
    return "".join((_SELECT, *(f", ({subquery})" for subquery in callers.facts().values()), _FROM, "WHERE ", condition))


_TOUCH = """
UPDATE accounts_apikey SET last_used_at = %(now)s
WHERE id = %(id)s AND (last_used_at IS NULL OR last_used_at < %(before)s)
"""


def _touch(key_id: int) -> None:
    """Note the use of a key, at most once a minute: a write on every request would make the key's row hot."""
    now_s = time.monotonic()
    if now_s - _touched_at_s.get(key_id, -_TOUCH_EVERY_S) < _TOUCH_EVERY_S:
        return
    if len(_touched_at_s) >= _TOUCHES_MAX:
        _touched_at_s.clear()
    _touched_at_s[key_id] = now_s
    now = timezone.now()
    try:
        sql.row(_TOUCH, {"id": key_id, "now": now, "before": now - dt.timedelta(seconds=_TOUCH_EVERY_S / 2)})
    except DatabaseError as error:  # a database that can only read still answers whoever only asks
        if not outages.is_outage(error):
            raise
