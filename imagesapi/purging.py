"""Erasing what a caller sent and got: payloads of a request, single pictures. What it cost stays on record."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.dispatch import receiver
from django.http import QueryDict

from accounts import signals
from accounts.callers import Caller
from accounts.models import Organization
from core import errors, ids, query
from imagesapi import cleaning, history
from imagesapi.models import Generation, Image, OwnProviderKey, WebhookEndpoint

_BATCH = 200


def media_too(asked: QueryDict) -> bool:
    """Whether pictures go as well; a misspelt parameter must not delete what was meant to be kept."""
    query.check_known(asked, ("media",), takes=("media",))
    return query.flag(asked, "media", default=True)


@transaction.atomic
def purge(caller: Caller, word: str, *, media: bool) -> dict[str, Any]:
    """Erase prompt, pictures and whatever else the caller sent; again and again changes nothing more.

    Raises NotFound, or NotFinished while the request is worked on.
    """
    row = _locked(caller, word)
    history.check_finished(row)
    already_purged = row.purged_at is not None
    if not already_purged:
        _erase(row)
    images = Image.objects.filter(organization_id=caller.organization_id, generation=row)
    images.exclude(revised_prompt="").update(revised_prompt="")
    deleted = _delete(list(images.filter(deleted_at=None).values_list("pk", flat=True))) if media else 0
    return {
        "id": ids.public("req", row.pk),
        "object": "request",
        "purged": True,
        "already_purged": already_purged,
        "media_deleted": deleted,
    }


@transaction.atomic
def delete_image(caller: Caller, word: str) -> dict[str, Any]:
    """Delete one picture; one that is deleted already stays so. Raises NotFound."""
    image_id = ids.parse("img", word)
    rows = Image.objects.select_for_update().filter(organization_id=caller.organization_id)
    found = rows.filter(pk=image_id).first() if image_id else None
    if found is None:
        raise history.no_image(word)
    if found.deleted_at is None:
        _delete([found.pk])
    return {"id": ids.public("img", found.pk), "object": "image", "deleted": True}


def everything_of(organization_id: int) -> bool:
    """Erase what an organization that has left sent and got, its webhooks and its keys at providers.

    Can be called again and again; False while there is a request that has not come to its end.
    """
    WebhookEndpoint.objects.filter(organization_id=organization_id).delete()
    OwnProviderKey.objects.filter(organization_id=organization_id).delete()
    mine = Generation.objects.filter(organization_id=organization_id)
    left = mine.filter(finished_at__isnull=False).filter(Q(purged_at=None) | Q(idempotency_key__isnull=False))
    while batch := list(left.values_list("pk", flat=True)[:_BATCH]):
        for generation_id in batch:
            with transaction.atomic():
                row = Generation.objects.select_for_update().get(pk=generation_id)
                _erase(row)
                Generation.objects.filter(pk=row.pk).update(idempotency_key=None, body_hash=None)
    images = Image.objects.filter(organization_id=organization_id)
    images.exclude(revised_prompt="").update(revised_prompt="")
    while kept := list(images.filter(deleted_at=None).values_list("pk", flat=True)[:_BATCH]):
        with transaction.atomic():
            _delete(kept)
    return not mine.filter(finished_at=None).exists()


@receiver(signals.closed)
def forget(sender: Any, *, organization: Organization, **_: Any) -> bool:
    """An organization has left."""
    return everything_of(organization.pk)


def _locked(caller: Caller, word: str) -> Generation:
    generation_id = ids.parse("req", word)
    rows = Generation.objects.select_for_update().filter(organization_id=caller.organization_id)
    row = rows.filter(pk=generation_id).first() if generation_id else None
    if row is None:
        raise errors.NotFound(f"There is no request {word[:40]!r}.")
    return row


def _erase(row: Generation) -> None:
    """The idempotency key stays: one charge must never buy a second picture because the first answer is gone."""
    adjustments = [{"parameter": one.get("parameter"), "why": one.get("why")} for one in row.adjustments or ()]
    Generation.objects.filter(pk=row.pk).update(
        asked={},
        sent=None,
        adjustments=adjustments or None,
        metadata=None,
        user="",
        inputs=None,
        answer=None,
        error_message="",  # a provider's words may repeat the prompt
        purged_at=Now(),
    )
    # Where an attempt's end is still unknown, its job is how that will be found out.
    row.attempts.exclude(status="unknown").update(job=None)
    cleaning.after_commit_files(cleaning.paths_within(row.inputs))


def _delete(image_ids: list[uuid.UUID]) -> int:
    """Gone for everybody with the commit; the files follow."""
    count = Image.objects.filter(pk__in=image_ids, deleted_at=None).update(deleted_at=Now())
    cleaning.after_commit(image_ids)
    return count
