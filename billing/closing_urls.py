"""The address of the page that closes an organization."""

from django.urls import path

from billing import closing_pages

app_name = "closing"
urlpatterns = [path("app/billing/close", closing_pages.page, name="page")]
