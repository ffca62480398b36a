"""The images API under both roots, since mixing them up is the most common mistake, and the native routes."""

from django.urls import URLPattern, path

from imagesapi import api, history_api, own_keys_api, webhook_api


def _both(route: str, view: type[api.ApiView], name: str) -> list[URLPattern]:
    return [path(f"{root}/{route}", view.as_view(), name=f"{name}{root[:2]}") for root in ("openai/v1", "v1")]


urlpatterns = [
    *_both("images/generations", api.Generations, "generations_"),
    *_both("images/edits", api.Edits, "edits_"),
    *_both("images/variations", api.Variations, "variations_"),
    *_both("images/<str:word>/content", api.ImageContent, "image_content_"),
    # Behind every images/<verb>: it takes whatever word is left.
    *_both("images/<str:word>", history_api.ImageDetail, "image_"),
    *_both("models", api.Models, "models_"),
    *_both("models/<path:name>", api.ModelDetail, "model_"),
    path("v1/requests", history_api.Requests.as_view(), name="requests"),
    path("v1/requests/<str:word>", history_api.RequestDetail.as_view(), name="request"),
    path("v1/requests/<str:word>/receipt", history_api.RequestReceipt.as_view(), name="request_receipt"),
    path("v1/requests/<str:word>/payloads", history_api.RequestPayloads.as_view(), name="request_payloads"),
    path("v1/usage", history_api.Usage.as_view(), name="usage"),
    path("v1/provider-keys", own_keys_api.ProviderKeys.as_view(), name="provider-keys"),
    path("v1/provider-keys/<str:word>", own_keys_api.ProviderKey.as_view(), name="provider-key"),
    path("v1/webhooks", webhook_api.Webhooks.as_view(), name="webhooks"),
    path("v1/webhooks/<str:word>", webhook_api.WebhookDetail.as_view(), name="webhook"),
    path("v1/webhooks/<str:word>/secret", webhook_api.WebhookSecret.as_view(), name="webhook_secret"),
    path("v1/webhooks/<str:word>/deliveries", webhook_api.WebhookDeliveries.as_view(), name="webhook_deliveries"),
    path(
        "v1/webhooks/<str:word>/deliveries/<str:delivery>/replay",
        webhook_api.WebhookReplay.as_view(),
        name="webhook_replay",
    ),
]
