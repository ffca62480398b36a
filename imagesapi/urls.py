"""The images API under both roots, since mixing them up is the most common mistake, and the native routes."""

from django.urls import URLPattern, path

from imagesapi import api


def _both(route: str, view: type[api.ApiView], name: str) -> list[URLPattern]:
    return [path(f"{root}/{route}", view.as_view(), name=f"{name}{root[:2]}") for root in ("openai/v1", "v1")]


urlpatterns = [
    *_both("images/generations", api.Generations, "generations_"),
    *_both("images/<str:word>/content", api.ImageContent, "image_content_"),
    *_both("models", api.Models, "models_"),
    *_both("models/<path:name>", api.ModelDetail, "model_"),
    path("v1/requests", api.Requests.as_view(), name="requests"),
    path("v1/requests/<str:word>", api.RequestDetail.as_view(), name="request"),
]
