"""API keys: the only place that sees a raw key. What is kept of one is a keyed hash and its last four characters."""

from __future__ import annotations

import datetime as dt
import re
import secrets
import time
from typing import Any

from django.utils import timezone

from accounts import callers
from accounts.callers import Caller
from accounts.models import KEY_ID_LENGTH, ApiKey, Organization, User
from core import crypto, sql
from core.errors import InvalidApiKey, InvalidRequest, PermissionDenied

PREFIX = "pxp_"
MAX_ACTIVE_PER_ORGANIZATION = 200
_NAME_MAX_CHARS = 80
_SECRET_BYTES = 32
_RAW_MAX_CHARS = 200
_RAW = re.compile(r"pxp_[0-9a-hjkmnp-tv-z]{12}\.[A-Za-z0-9_-]{43}")

# True in a statement while the key still lets its caller in; for statements that name it %(key_id)s.
STILL_VALID = """EXISTS (
    SELECT 1 FROM accounts_apikey k JOIN accounts_organization o ON o.id = k.organization_id
    WHERE k.id = %(key_id)s AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
      AND o.suspended_at IS NULL
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
) -> tuple[ApiKey, str]:
    """A new key and its raw form, which exists nowhere else: show it once.

    Raises InvalidRequest for a bad name, an expiry that has passed, or too many keys.
    """
    name = " ".join(name.split())
    if not name or len(name) > _NAME_MAX_CHARS or not name.isprintable():
        raise InvalidRequest(f"A key needs a name of 1 to {_NAME_MAX_CHARS} characters.", param="name")
    now = timezone.now()
    if expires_at is not None and expires_at <= now:
        raise InvalidRequest("A key must expire in the future.", param="expires_at")
    if organization.api_keys.filter(revoked_at=None).count() >= MAX_ACTIVE_PER_ORGANIZATION:
        raise InvalidRequest(
            f"An organization has at most {MAX_ACTIVE_PER_ORGANIZATION} keys: revoke one first.", param="name"
        )
    public_id = ApiKey.new_public_id()
    raw = f"{PREFIX}{public_id}.{secrets.token_urlsafe(_SECRET_BYTES)}"
    key = ApiKey.objects.create(
        public_id=public_id,
        organization=organization,
        created_by=created_by,
        name=name,
        secret_hash=_hash(raw),
        last_four=raw[-4:],
        created_at=now,
        expires_at=expires_at,
    )
    return key, raw


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
    if len(raw) > _RAW_MAX_CHARS or not _RAW.fullmatch(raw):
        raise InvalidApiKey(
            "This is not an API key of this service: they look like pxp_<id>.<secret>. Keys of other services do not "
            "work here; create one under /app/keys."
        )
    secret_hash = _hash(raw)
    if checked_later:
        read_at_s, caller = _recent.get(secret_hash, (0.0, None))
        if caller is not None and time.monotonic() - read_at_s < _RECENT_S:
            _touch(caller.key_id)
            return caller
    return _read("k.secret_hash = %(secret_hash)s", {"secret_hash": secret_hash})


def look_again(caller: Caller) -> Caller:
    """The same caller as of now. Raises as `authenticate` does."""
    return _read("k.id = %(key_id)s", {"key_id": caller.key_id})


def _read(condition: str, parameters: dict[str, Any]) -> Caller:
    names = tuple(callers.facts())
    # SQL by hand: building the same query through the ORM costs several milliseconds of every request.
    row = sql.row(_lookup(condition), parameters)
    if row is None:
        raise InvalidApiKey("This API key is not known. Check that it was copied whole.")
    secret_hash, key_id, public_id, created_by_id, expires_at, revoked_at = row[:6]
    organization_id, slug, suspended_at, default_response_format, link_life_minutes = row[6:11]
    _recent.pop(secret_hash, None)
    if revoked_at is not None:
        raise InvalidApiKey("This API key was revoked.")
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidApiKey("This API key has expired.")
    if suspended_at is not None:
        raise PermissionDenied("This organization is suspended.", code="organization_suspended")
    _touch(key_id)
    caller = Caller(
        organization_id=organization_id,
        organization_slug=slug,
        key_id=key_id,
        key_public_id=public_id,
        created_by_id=created_by_id,
        default_response_format=default_response_format,
        link_life_minutes=link_life_minutes,
        facts=dict(zip(names, row[11:], strict=True)),
    )
    if len(_recent) >= _RECENT_MAX:
        _recent.clear()
    _recent[secret_hash] = (time.monotonic(), caller)
    return caller


def _hash(raw: str) -> bytes:
    return crypto.keyed_hash("api-key", raw.encode("ascii"))


_SELECT = """
SELECT k.secret_hash, k.id, k.public_id, k.created_by_id, k.expires_at, k.revoked_at,
       o.id, o.slug, o.suspended_at, o.default_response_format, o.link_life_minutes
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
    sql.row(_TOUCH, {"id": key_id, "now": now, "before": now - dt.timedelta(seconds=_TOUCH_EVERY_S / 2)})
