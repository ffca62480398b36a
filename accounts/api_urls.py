"""The addresses of the keys API."""

from django.urls import path

from accounts import keys_api

urlpatterns = [
    path("v1/keys", keys_api.Keys.as_view(), name="keys"),
    path("v1/keys/<str:word>", keys_api.KeyDetail.as_view(), name="key"),
]
