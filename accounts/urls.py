"""The addresses of the account pages; signing in and up are allauth's, under /accounts/."""

from django.urls import path

from accounts import views

app_name = "accounts"
urlpatterns = [
    path("app/keys", views.key_list, name="keys"),
    path("app/keys/<str:public_id>/revoke", views.key_revoke, name="key-revoke"),
    path("app/switch", views.organization_switch, name="switch"),
]
