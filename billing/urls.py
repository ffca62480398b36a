"""Billing's addresses."""

from django.urls import path

from billing import api, budgets_api, pages

urlpatterns = [
    path("v1/balance", api.Balance.as_view(), name="balance"),
    path("v1/budgets", budgets_api.Budgets.as_view(), name="budgets"),
    path("v1/budgets/keys/<str:word>", budgets_api.KeyBudgets.as_view(), name="key-budgets"),
    path("v1/transactions", api.Transactions.as_view(), name="transactions"),
    path("app/billing/transactions", pages.transactions, name="transactions-page"),
]
