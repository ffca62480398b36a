"""A past for tests: requests of any age, state and size, written as rows and not through a provider."""

from __future__ import annotations

import datetime as dt
import os
import uuid
from typing import Any

from django.conf import settings
from django.db import connection

from accounts.models import ApiKey, Organization
from core import ids
from imagesapi import store
from imagesapi.models import Generation, Image

OPEN = ("pending", "processing")


def id_at(moment: dt.datetime) -> uuid.UUID:
    """An id as a request that came in then has it."""
    made = ids.first_of(int(moment.timestamp() * 1000)).int | int.from_bytes(os.urandom(10), "big")
    return uuid.UUID(int=made & ~(0xF << 76) & ~(0x3 << 62) | (0x7 << 76) | (0x2 << 62))


def generation(
    organization: Organization, *, at: dt.datetime | None = None, key: ApiKey | None = None, **facts: Any
) -> Generation:
    """One request, completed and free unless `facts` say otherwise."""
    moment = at or dt.datetime.now(dt.UTC)
    status = facts.setdefault("status", "completed")
    under_way = status in OPEN
    row: dict[str, Any] = {
        "pk": id_at(moment),
        "endpoint": "images/generations",
        "model": "mock-image",
        "provider": "" if under_way else "mock",
        "asked": {"prompt": "a red fox"},
        "created_at": moment,
        "cost_nanos": 0 if status == "completed" else None,
        "finished_at": None if under_way else moment,
        "lease_expires_at": moment + dt.timedelta(days=1000) if under_way else None,
        "lease_owner": 1 if under_way else None,
    }
    return Generation.objects.create(organization=organization, api_key=key, **{**row, **facts})


def image(row: Generation, *, position: int = 0, data: bytes | None = None, **facts: Any) -> Image:
    """One picture of it; in the store only when `data` says what is in the file."""
    image_id = ids.new()
    path = store.place(image_id, "png")
    if data is not None:
        file = settings.STORE_DIR / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return Image.objects.create(
        pk=image_id,
        organization_id=row.organization_id,
        generation=row,
        position=position,
        path=path,
        content_type="image/png",
        width_px=16,
        height_px=16,
        size_bytes=len(data or b""),
        **facts,
    )


_MANY = """
INSERT INTO imagesapi_generation (id, organization_id, api_key_id, endpoint, model, provider, status, asked, cost_nanos,
    error_code, created_at, finished_at)
SELECT (lpad(to_hex(%(end_ms)s - (%(count)s - n)::bigint * %(step_ms)s), 12, '0') || '7'
        || substr(md5(n::text), 1, 19))::uuid,
    %(organization_id)s, %(key_id)s, 'images/generations', 'mock-image', 'mock',
    CASE WHEN n %% %(rare)s = 0 THEN 'rejected' ELSE 'completed' END, '{"prompt": "a red fox"}',
    CASE WHEN n %% %(rare)s = 0 THEN NULL ELSE 1000 END, '',
    to_timestamp((%(end_ms)s - (%(count)s - n)::bigint * %(step_ms)s) / 1000.0), now()
FROM generate_series(1, %(count)s) n
"""


def many(organization: Organization, *, count: int, end: dt.datetime, step_ms: int = 1000, rare: int = 10_000) -> None:
    """Requests at a steady pace up to a moment, each `rare`th of them refused by the provider."""
    with connection.cursor() as cursor:
        cursor.execute(
            _MANY,
            {
                "organization_id": organization.pk,
                "key_id": None,
                "count": count,
                "end_ms": int(end.timestamp() * 1000),
                "step_ms": step_ms,
                "rare": rare,
            },
        )
