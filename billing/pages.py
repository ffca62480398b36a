"""Billing's pages for people."""

from __future__ import annotations

from django.core.exceptions import BadRequest
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.current import MemberRequest, member_page
from billing import history, ledger, words
from core import errors


@require_safe
@member_page()
def transactions(request: MemberRequest) -> HttpResponse:
    """The organization's movements with the balance after each, newest first."""
    organization_id = request.membership.organization_id
    # A form sends what nobody filled in as an empty text.
    asked = request.GET.copy()
    for name in [name for name, value in asked.items() if not value]:
        del asked[name]
    try:
        page = history.page(organization_id, asked, path=request.path)
    except errors.InvalidRequest as error:
        raise BadRequest(error.message) from error
    context = {
        "page": page,
        "balance": ledger.balance(organization_id),
        "kinds": words.WORDS.items(),
        "asked": asked,
    }
    return render(request, "billing/transactions.html", context)
