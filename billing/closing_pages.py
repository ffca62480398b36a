"""The page on which an owner closes the organization, having typed its name."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from accounts.current import MemberRequest, member_page
from accounts.roles import Right
from billing import closing, ledger
from core.errors import PixelparError


@require_http_methods(["GET", "HEAD", "POST"])
@member_page(right=Right.CLOSE_ORGANIZATION)
def page(request: MemberRequest) -> HttpResponse:
    """What closing means; a POST with the organization's slug does it."""
    if request.method != "POST":
        return _show(request)
    organization = request.membership.organization
    if request.POST.get("confirm", "").strip() != organization.slug:
        return redirect(f"{reverse('closing:page')}?typed=other")
    try:
        done = closing.begin(organization, asked_by=request.user.email)
    except PixelparError as error:
        return _show(request, problem=error.message, status=error.status)
    # Nobody is a member any more, so there is no page of the organization left to go to.
    return render(request, "billing/closed.html", {"closing": done, "organization": organization})


def _show(request: MemberRequest, *, problem: str = "", status: int = 200) -> HttpResponse:
    organization = request.membership.organization
    if request.GET.get("typed") == "other":
        problem = problem or "What you typed is not the organization's short name. Nothing was changed."
    context = {"balance": ledger.balance(organization.pk), "organization": organization, "problem": problem}
    return render(request, "billing/closing.html", context, status=status)
