"""The forms of sign-in and of the key pages."""

from __future__ import annotations

import datetime as dt

from allauth.account import forms as allauth_forms
from django import forms
from django.utils import timezone

from accounts import scopes
from accounts.models import normalise_email


class LoginForm(allauth_forms.LoginForm):
    """Signs in by address in any spelling, so that spellings are not separate tries."""

    def clean_login(self) -> str:
        return normalise_email(super().clean_login())


class ResetPasswordForm(allauth_forms.ResetPasswordForm):
    """Sends to the address we found the account by, never to a look-alike that was typed."""

    def clean_email(self) -> str:
        return normalise_email(super().clean_email())


class KeyForm(forms.Form):
    """A new API key."""

    name = forms.CharField(max_length=80, help_text="Where it is used, so that you know what stops when it is revoked.")
    expires = forms.ChoiceField(
        choices=[("", "Never"), ("7", "In 7 days"), ("30", "In 30 days"), ("90", "In 90 days"), ("365", "In a year")],
        required=False,
    )
    scopes = forms.MultipleChoiceField(
        label="May",
        choices=list(scopes.WORDS.items()),
        initial=list(scopes.DEFAULT),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one thing that the key may do."},
    )

    def expires_at(self) -> dt.datetime | None:
        """When the key shall end, None for never."""
        days = self.cleaned_data["expires"]
        return timezone.now() + dt.timedelta(days=int(days)) if days else None
