"""Billing's addresses."""

from django.urls import path

from billing import api

urlpatterns = [
    path("v1/balance", api.Balance.as_view(), name="balance"),
    path("v1/transactions", api.Transactions.as_view(), name="transactions"),
]
