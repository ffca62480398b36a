"""The key pages and the choice of organization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from accounts import current, key_limits, keys, scopes
from accounts.current import MemberRequest, member_page
from accounts.forms import KeyForm
from accounts.models import ApiKey, Organization
from accounts.roles import Right, allows
from core.errors import InvalidRequest

_ENDED_SHOWN = 20


@require_http_methods(["GET", "HEAD", "POST"])
def key_list(request: HttpRequest) -> HttpResponse:
    """The organization's keys; a POST makes one."""
    return _create(request) if request.method == "POST" else _show(request)


@member_page()
def _show(request: MemberRequest) -> HttpResponse:
    return _page(request, KeyForm())


@member_page(right=Right.MANAGE_KEYS)
@sensitive_variables("raw")
def _create(request: MemberRequest) -> HttpResponse:
    form = KeyForm(request.POST)
    organization = request.membership.organization
    if organization.suspended_at is not None:
        form.add_error(None, "This organization is suspended.")
    if not form.is_valid():
        return _page(request, form, status=400)
    try:
        key, raw = keys.create(
            organization,
            name=form.cleaned_data["name"],
            created_by=request.user,
            expires_at=form.expires_at(),
            scopes=form.cleaned_data["scopes"],
        )
    except InvalidRequest as error:
        form.add_error(error.param if error.param in form.fields else None, error.message)
        return _page(request, form, status=400)
    # No redirect: the key would have to be kept somewhere in between.
    return render(request, "accounts/key_created.html", {"key": key, "raw_key": raw}, status=201)


def _page(request: MemberRequest, form: KeyForm, *, status: int = 200) -> HttpResponse:
    shown = _shown(request.membership.organization)
    limits = key_limits.keeper().of([key.pk for key in shown])
    now = timezone.now()
    context = {
        "form": form,
        "rows": [(key, key.status(now), _words(key, limits[key.pk])) for key in shown],
        "may_manage": allows(request.membership.role, Right.MANAGE_KEYS),
    }
    return render(request, "accounts/keys.html", context, status=status)


def _words(key: ApiKey, limits: Mapping[str, Any]) -> dict[str, str]:
    """What a key may do, and how much of it."""
    held_to = [*key_limits.keeper().in_words(limits), *key.key_rules.in_words()]
    return {"may": ", ".join(scopes.WORDS[scope] for scope in key.scopes), "held_to": "; ".join(held_to)}


def _shown(organization: Organization) -> list[ApiKey]:
    """Every key that was not revoked, then those revoked last."""
    mine = organization.api_keys.select_related("created_by").order_by("-id")
    return [*mine.filter(revoked_at=None), *mine.exclude(revoked_at=None)[:_ENDED_SHOWN]]


@require_POST
@member_page(right=Right.MANAGE_KEYS)
def key_revoke(request: MemberRequest, public_id: str) -> HttpResponse:
    """End one of the organization's keys."""
    key = request.membership.organization.api_keys.filter(public_id=public_id).first()
    if key is None:
        raise Http404("There is no such key.")
    keys.revoke(key)
    return redirect("accounts:keys")


@require_POST
@member_page()
def organization_switch(request: MemberRequest) -> HttpResponse:
    """Look at another of one's organizations."""
    if not current.switch(request, request.POST.get("organization", "")):
        raise Http404("There is no such organization.")
    return redirect("web:overview")
