"""The landing page and the overview of an organization."""

from __future__ import annotations

import sys

import structlog
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.http import require_safe
from django.views.defaults import server_error

from accounts.current import MemberRequest, member_page
from billing import ledger
from core import outages
from imagesapi.models import Generation

log = structlog.get_logger(__name__)

_RECENT = 10


def failed(request: HttpRequest) -> HttpResponse:
    """Django's handler500, for what nobody caught: an outage of the database is none of our mistakes, and passes."""
    error = sys.exc_info()[1]
    if error is None or not outages.is_outage(error):
        return server_error(request)
    outages.tell(log, "the database cannot serve", error)
    # Without the request: what pages are rendered with may ask the database.
    response = HttpResponse(render_to_string("503.html"), status=503)
    response.headers["Retry-After"] = str(outages.RETRY_AFTER_S)
    response._has_been_logged = True  # type: ignore[attr-defined] # else Django adds the traceback
    return response


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
