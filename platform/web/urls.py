"""The addresses of the pages that belong to no single room."""

from django.urls import path

from web import views

app_name = "web"
urlpatterns = [
    path("", views.landing, name="landing"),
    path("app", views.overview, name="overview"),
]
