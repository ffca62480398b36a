"""The page of budgets: what everybody may spend and has spent, and forms to change it for who may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from accounts.current import MemberRequest, member_page
from accounts.models import ApiKey, Membership, Organization
from accounts.roles import Right, allows
from billing import budgets
from billing.budgets import WINDOWS, Budget
from core import money
from core.errors import NotFound, PixelparError


@dataclass(frozen=True, slots=True)
class Row:
    """Somebody or something that may have budgets, and those it has by window; what the form sends names it."""

    scope: str
    name: str
    detail: str
    word: str
    budgets: Mapping[str, Budget | None]

    @property
    def fields(self) -> list[tuple[str, str, str]]:
        """Each input's name, label and present value."""
        labels = {"day": "A day", "month": "A month", "total": "In all"}
        found = [(name, labels[window], self.budgets[window]) for name, window in WINDOWS.items()]
        return [(name, label, money.decimal(it.cap_nanos) if it else "") for name, label, it in found]


@require_safe
@member_page()
def page(request: MemberRequest) -> HttpResponse:
    """Everybody in the organization may look."""
    return _show(request)


@require_POST
@member_page(right=Right.MANAGE_BILLING)
def change_organization(request: MemberRequest) -> HttpResponse:
    """What everybody may spend together."""
    mine = request.membership.organization
    return _change(request, lambda asked: budgets.set_for_organization(mine, asked))


@require_POST
@member_page(right=Right.MANAGE_BILLING)
def change_member(request: MemberRequest) -> HttpResponse:
    """What one member may spend."""
    mine = request.membership.organization
    email = request.POST.get("member", "")
    return _change(request, lambda asked: budgets.set_for_member(mine, email, asked))


@require_POST
@member_page(right=Right.MANAGE_BILLING)
def change_key(request: MemberRequest, public_id: str) -> HttpResponse:
    """What one key may spend."""
    key = request.membership.organization.api_keys.filter(public_id=public_id).first()
    if key is None:
        raise Http404("There is no such key.")
    return _change(request, lambda asked: budgets.set_for_key(key, asked))


def _change(request: MemberRequest, put: Callable[[dict[str, object]], object]) -> HttpResponse:
    asked: dict[str, object] = {
        name: request.POST[name].strip() for name in WINDOWS if request.POST.get(name, "").strip()
    }
    try:
        put(asked)
    except NotFound as error:
        raise Http404(error.message) from error
    except PixelparError as error:
        return _show(request, problem=error.message)
    return redirect("budgets:page")


def _show(request: MemberRequest, *, problem: str = "") -> HttpResponse:
    may_close = allows(request.membership.role, Right.CLOSE_ORGANIZATION)
    context = {**section(request.membership), "problem": problem, "may_close": may_close}
    return render(request, "billing/budgets.html", context, status=400 if problem else 200)


def section(membership: Membership) -> dict[str, Any]:
    """What `billing/_budgets.html` needs, on whichever page it stands."""
    return {
        "budget_rows": _rows(membership.organization),
        "may_manage_budgets": allows(membership.role, Right.MANAGE_BILLING),
    }


def _rows(organization: Organization) -> list[Row]:
    found: dict[tuple[str, int | None], dict[str, Budget]] = {}
    for budget in budgets.overview(organization.pk):
        found.setdefault((budget.scope, budget.scope_id), {})[budget.window] = budget

    def row(scope: str, scope_id: int | None, name: str, detail: str, word: str) -> Row:
        mine = found.get((scope, scope_id), {})
        return Row(scope, name, detail, word, {window: mine.get(window) for window in WINDOWS.values()})

    members = [item.user for item in organization.memberships.select_related("user").order_by("id")]
    limited = [scope_id for scope, scope_id in found if scope == "key"]
    its_keys = ApiKey.objects.filter(Q(revoked_at=None) | Q(pk__in=limited), organization=organization)
    return [
        row("organization", None, organization.name, "everything together", ""),
        *(row("member", person.pk, person.get_short_name(), person.email, person.email) for person in members),
        *(row("key", key.pk, key.name, str(key), key.public_id) for key in its_keys.order_by("-id")),
    ]
