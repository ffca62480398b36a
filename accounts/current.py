"""Which organization a signed-in person looks at, and what they may do there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts import organizations
from accounts.models import Membership, User
from accounts.roles import Right, allows

_SESSION_KEY = "organization_id"
_View = Callable[..., HttpResponse]


class MemberRequest(HttpRequest):
    """A request of a signed-in member."""

    membership: Membership
    user: User


def memberships(request: HttpRequest) -> list[Membership]:
    """All memberships of the signed-in person, read once a request."""
    found = getattr(request, "_memberships", None)
    if found is None:
        found = organizations.for_user(request.user) if request.user.is_authenticated else []
        request._memberships = found  # type: ignore[attr-defined]
    return found


def membership(request: HttpRequest) -> Membership | None:
    """The membership chosen in this session, else the oldest; a choice that is theirs no more is not honoured."""
    found = memberships(request)
    chosen = request.session.get(_SESSION_KEY)
    return next((item for item in found if item.organization_id == chosen), found[0] if found else None)


def switch(request: HttpRequest, slug: str) -> bool:
    """Choose another organization for this session; False when the person is no member of it."""
    for item in memberships(request):
        if item.organization.slug == slug:
            request.session[_SESSION_KEY] = item.organization_id
            return True
    return False


def member_page(*, right: Right = Right.READ) -> Callable[[_View], _View]:
    """A page for signed-in members with a right; sets `request.membership`."""

    def decorate(view: _View) -> _View:
        @functools.wraps(view)
        @login_required
        def page(request: MemberRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            found = membership(request)
            if found is None:
                return render(request, "accounts/no_organization.html")
            if not allows(found.role, right):
                raise PermissionDenied(f"Your role here, {found.get_role_display()}, does not allow this.")
            request.membership = found
            return view(request, *args, **kwargs)

        return page

    return decorate
