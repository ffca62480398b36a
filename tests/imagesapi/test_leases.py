"""Leases: what a process works on is renewed, and what it could not bring to an end expires, however busy it is."""

from __future__ import annotations

import time
import uuid

import pytest
from django.db.models.functions import Now
from pytest_django.fixtures import Settings

from accounts import keys
from accounts.callers import Caller
from core import ids
from imagesapi import admission, gateway, inputs, leases, recovery
from imagesapi.models import Generation
from tests import calls, money


def admit(caller: Caller) -> uuid.UUID:
    """A generation in flight, whose lease is this process's."""
    request = inputs.generation(calls.ASKED, inputs.Context(default_model="gpt-image-1"))
    generation_id = ids.new()
    admission.admit(generation_id, caller=caller, request=request, plan=gateway.plan(caller, request))
    return generation_id


def test_what_could_not_be_closed_is_recovered_while_its_process_works_on(
    committed: None, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    # One that renews since an earlier test would sleep by that test's longer lease.
    monkeypatch.setattr(leases, "_process", leases._Process())
    settings.LEASE_S = 2
    caller = keys.authenticate(money.customer(promo_nanos=10**9)[1].raw)
    orphan, at_work = admit(caller), admit(caller)
    with leases.working(at_work):
        time.sleep(2.5)
        assert set(Generation.objects.filter(lease_expires_at__lt=Now()).values_list("pk", flat=True)) == {orphan}
        assert recovery.sweep().voided == 1
    time.sleep(2.1)
    assert recovery.sweep().voided == 1
    assert money.wrongs() == []
