"""The addresses of the billing page, what its forms do, and where Stripe posts its events."""

from django.urls import path

from billing import views
from billing.stripe_webhook import webhook

app_name = "billing"
urlpatterns = [
    path("app/billing", views.page, name="page"),
    path("app/billing/top-up", views.top_up, name="top-up"),
    path("app/billing/top-ups/<str:word>", views.top_up_done, name="top-up-done"),
    path("app/billing/top-ups/<str:word>/confirm", views.top_up_confirm, name="top-up-confirm"),
    path("app/billing/automatic", views.automatic_save, name="automatic"),
    path("app/billing/card/remove", views.card_remove, name="card-remove"),
    path("app/billing/portal", views.portal, name="portal"),
    path("app/billing/refund", views.refund, name="refund"),
    path("billing/stripe/webhook", webhook, name="stripe-webhook"),
]
