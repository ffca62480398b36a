"""The addresses of receipts, statements, exports and the public proof."""

from django.urls import path

from imagesapi.reports import api, exports, pages

urlpatterns = [
    path("v1/statements", api.Statements.as_view(), name="statements"),
    path("v1/statement", api.Statement.as_view(), name="statement"),
    path("v1/exports/transactions", api.TransactionsExport.as_view(), name="export-transactions"),
    path("v1/exports/requests", api.RequestsExport.as_view(), name="export-requests"),
    path("v1/exports/focus", api.FocusExport.as_view(), name="export-focus"),
    path("v1/exports/statement", api.StatementExport.as_view(), name="export-statement"),
    path("app/requests/<str:word>/receipt", pages.receipt, name="receipt-page"),
    path("app/billing/statements", pages.statement_list, name="statements-page"),
    path("app/billing/statement", pages.statement, name="statement-page"),
    *(
        path(f"app/billing/exports/{kind}.csv", pages.export, {"kind": kind}, name=f"export-{kind}-page")
        for kind in exports.KINDS
    ),
    path("zero-markup", pages.proof, name="zero-markup"),
    path("zero-markup.json", pages.proof_json, name="zero-markup-json"),
]
