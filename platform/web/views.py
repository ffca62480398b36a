"""The landing page and the overview of an organization."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.current import MemberRequest, member_page
from billing import ledger
from imagesapi.models import Generation

_RECENT = 10


@require_safe
def landing(request: HttpRequest) -> HttpResponse:
    """What this is, in one screen."""
    return render(request, "web/landing.html")


@require_safe
@member_page()
def overview(request: MemberRequest) -> HttpResponse:
    """Balance, first steps until they are done, and the last requests."""
    organization = request.membership.organization
    recent = list(
        Generation.objects.filter(organization=organization)
        .order_by("-id")
        .only("id", "model", "provider", "status", "cost_nanos", "created_at", "simulated", "error_code")[:_RECENT]
    )
    context = {
        "balance": ledger.balance(organization.pk),
        "recent": recent,
        "has_key": organization.api_keys.filter(revoked_at=None).exists(),
    }
    return render(request, "web/overview.html", context)
