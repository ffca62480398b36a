"""Every address of the platform."""

from django.urls import include, path

handler500 = "web.views.failed"

urlpatterns = [
    path("", include("imagesapi.urls")),
    path("accounts/", include("allauth.urls")),
    path("", include("imagesapi.reports.urls")),
    path("", include("billing.urls")),
    path("", include("billing.page_urls")),
    path("", include("billing.budget_urls")),
    path("", include("billing.closing_urls")),
    path("", include("accounts.api_urls")),
    path("", include("accounts.urls")),
    path("", include("web.urls")),
]
