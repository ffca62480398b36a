"""The signed-in person's organizations, for the frame around every page of the app."""

from __future__ import annotations

from typing import Any

from django import template

from accounts import current
from accounts.models import Membership

register = template.Library()

# The tab that a page of the app belongs to: by its name, or by the group that its name is in.
_TABS = {
    "web:overview": "overview",
    "receipt-page": "overview",
    "accounts": "keys",
    "billing": "billing",
    "transactions-page": "billing",
    "statements-page": "billing",
    "statement-page": "billing",
    "closing": "billing",
    "budgets": "budgets",
}


@register.filter
def tab(view_name: str | None) -> str:
    """Which of the organization's tabs is marked on a page; empty on those that belong to none."""
    name = view_name or ""
    return _TABS.get(name) or _TABS.get(name.partition(":")[0], "")


@register.simple_tag(takes_context=True)
def current_membership(context: dict[str, Any]) -> Membership | None:
    """The membership whose organization the page is about."""
    request = context.get("request")
    return current.membership(request) if request is not None and hasattr(request, "session") else None


@register.simple_tag(takes_context=True)
def other_memberships(context: dict[str, Any]) -> list[Membership]:
    """The organizations one can switch to."""
    here = current_membership(context)
    return [item for item in current.memberships(context["request"]) if item != here] if here else []
