"""The addresses of the pages that belong to no single room."""

from django.urls import path

from web import api_reference, texts, views

app_name = "web"
urlpatterns = [
    path("", views.landing, name="landing"),
    path("openapi.json", api_reference.document, name="openapi"),
    path("docs/api", api_reference.page, name="api-reference"),
    path("llms.txt", texts.overview, name="llms"),
    path("models/<slug:slug>/llms.txt", texts.model, name="model-llms"),
    path("app", views.overview, name="overview"),
]
