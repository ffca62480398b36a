"""The addresses of the budgets' page."""

from django.urls import path

from billing import budgets_pages

app_name = "budgets"
urlpatterns = [
    path("app/billing/budgets", budgets_pages.page, name="page"),
    path("app/billing/budgets/organization", budgets_pages.change_organization, name="organization"),
    path("app/billing/budgets/member", budgets_pages.change_member, name="member"),
    path("app/billing/budgets/keys/<str:public_id>", budgets_pages.change_key, name="key"),
]
