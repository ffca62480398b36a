"""Statements, exports and the public proof for programs."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from accounts import scopes
from accounts.api import ApiView
from accounts.models import Organization
from core import api, query, tables
from imagesapi.reports import exports, statements


class Statements(ApiView):
    """GET /v1/statements: the organization's months, newest first."""

    scope: ClassVar[str | None] = scopes.USAGE

    def get(self, request: Request) -> HttpResponse:
        months = statements.months(self.caller(request).organization_id)
        return api.render({"object": "list", "data": [month.summary() for month in months]})


class Statement(ApiView):
    """GET /v1/statement?month=2026-10: one month with its lines."""

    scope: ClassVar[str | None] = scopes.USAGE
    reads_query = ("get",)

    def get(self, request: Request) -> HttpResponse:
        query.check_known(request.query_params, ("month",), takes=("month",))
        month = statements.get(self.caller(request).organization_id, request.query_params.get("month"))
        return api.render(month.as_dict())


class _Export(ApiView):
    """GET /v1/exports/{kind}: CSV, written while it is read."""

    scope: ClassVar[str | None] = scopes.USAGE
    reads_query = ("get",)
    kind: ClassVar[str]

    def get(self, request: Request) -> HttpResponseBase:
        organization = Organization.objects.get(pk=self.caller(request).organization_id)
        found: Any = exports.download(self.kind, organization, request.query_params)
        return tables.response(found.pieces, filename=found.filename)


class TransactionsExport(_Export):
    """What came in and went out."""

    kind = "transactions"


class RequestsExport(_Export):
    """What was asked for and what it cost."""

    kind = "requests"


class FocusExport(_Export):
    """Charges in the columns of FOCUS."""

    kind = "focus"


class StatementExport(_Export):
    """One month."""

    kind = "statement"
