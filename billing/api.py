"""Billing for API keys."""

from __future__ import annotations

from typing import ClassVar

from django.http import HttpResponse
from rest_framework.request import Request

from accounts import scopes
from accounts.api import ApiView
from billing import history, ledger
from core import api, money


class Balance(ApiView):
    """GET /v1/balance: what can be spent now."""

    scope: ClassVar[str | None] = scopes.USAGE

    def get(self, request: Request) -> HttpResponse:
        found = ledger.balance(self.caller(request).organization_id)
        return api.render(
            {
                "object": "balance",
                "billing_type": "prepaid",
                "available": {"amount": money.json_number(found.available_nanos), "currency": "usd"},
                "held": {"amount": money.json_number(found.held_nanos), "currency": "usd"},
                "promo": {"amount": money.json_number(found.promo_nanos), "currency": "usd"},
            }
        )


class Transactions(ApiView):
    """GET /v1/transactions: the organization's journal, newest first."""

    scope: ClassVar[str | None] = scopes.USAGE
    reads_query = ("get",)

    def get(self, request: Request) -> HttpResponse:
        return api.render(
            history.page(self.caller(request).organization_id, request.query_params, path=request.path).as_dict()
        )
