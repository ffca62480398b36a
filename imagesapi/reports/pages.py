"""The pages of receipts, statements and exports, and the public page of the proof."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable
from typing import Any

from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.current import MemberRequest, member_page
from core import api, errors, money, query, tables
from imagesapi import history
from imagesapi.reports import exports, statements, zero_markup

_View = Callable[..., Any]


def _in_words(view: _View) -> _View:
    """What the API refuses with an envelope, pages refuse with a page."""

    @functools.wraps(view)
    def page(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return view(request, *args, **kwargs)
        except errors.NotFound as error:
            raise Http404(error.message) from error
        except errors.InvalidRequest as error:
            raise BadRequest(error.message) from error

    return page


@require_safe
@member_page()
@_in_words
def receipt(request: MemberRequest, word: str) -> HttpResponse:
    """The itemised receipt of one request."""
    try:
        found = history.receipt(request.membership, word)
    except errors.NotFinished as error:
        return render(request, "imagesapi/receipt.html", {"word": word, "waiting": error.message})
    paid = money.nanos(found["charged"])
    context = {"word": word, "receipt": found, "charged_nanos": paid, "evidence": _flat(found.get("evidence") or {})}
    if found.get("priced_at"):
        context["priced_at"] = dt.datetime.fromisoformat(found["priced_at"]).astimezone(dt.UTC)
    return render(request, "imagesapi/receipt.html", context)


def _flat(evidence: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """What the provider said, one fact a line."""
    found: list[tuple[str, Any]] = []
    for name, value in evidence.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, dict):
            found += _flat(value, f"{label} · ")
        elif value not in (None, "", []):
            found.append((label, {True: "yes", False: "no"}[value] if isinstance(value, bool) else value))
    return found


@require_safe
@member_page()
@_in_words
def statement_list(request: MemberRequest) -> HttpResponse:
    """Every month of the organization."""
    query.check_known(request.GET, (), takes=())
    months = statements.months(request.membership.organization_id)
    return render(request, "billing/statements.html", {"months": months})


@require_safe
@member_page()
@_in_words
def statement(request: MemberRequest) -> HttpResponse:
    """One month, with its lines."""
    query.check_known(request.GET, ("month",), takes=("month",))
    month = statements.get(request.membership.organization_id, request.GET.get("month"))
    return render(request, "billing/statement.html", {"month": month})


@require_safe
@member_page()
@_in_words
def export(request: MemberRequest, kind: str) -> HttpResponseBase:
    """A download."""
    found = exports.download(kind, request.membership.organization, request.GET)
    return tables.response(found.pieces, filename=found.filename)


@require_safe
@_in_words
def proof(request: HttpRequest) -> HttpResponse:
    """Charged and paid, for everybody."""
    found = zero_markup.report(request.GET)
    return render(request, "imagesapi/zero_markup.html", {"report": found, "names": zero_markup.names()})


@require_safe
def proof_json(request: HttpRequest) -> HttpResponse:
    """The same for programs."""
    try:
        return api.render(zero_markup.report(request.GET).as_dict())
    except errors.InvalidRequest as error:
        return api.render_error(error)
