"""The forms of the billing page; amounts are read as exact dollars."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from billing import top_ups
from billing.stripe_models import AutomaticTopUp
from core import errors, money

_CEILING_MAX_USD = 100_000


class DollarsField(forms.CharField):
    """An amount of dollars in whole cents, as nano-dollars."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            max_length=20,
            widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
            **options,
        )

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            amount_nanos = money.nanos(text.strip().removeprefix("$"))
        except ValueError as error:
            raise ValidationError("An amount of US dollars, such as 25 or 12.50.") from error
        if amount_nanos < 0 or amount_nanos % money.NANOS_PER_CENT:
            raise ValidationError("An amount is in whole cents and not below zero.")
        if amount_nanos > _CEILING_MAX_USD * money.NANOS_PER_USD:
            raise ValidationError(f"An amount is at most ${_CEILING_MAX_USD}.")
        return amount_nanos


class TopUpForm(forms.Form):
    """How much to pay in. `attempt` makes two clicks one top-up."""

    amount = forms.CharField(
        max_length=20, widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"})
    )
    save_card = forms.BooleanField(required=False, label="Save the card for automatic top-ups")
    attempt = forms.UUIDField(required=False, widget=forms.HiddenInput)

    def clean_amount(self) -> int:
        try:
            return top_ups.amount(self.cleaned_data["amount"])
        except errors.InvalidRequest as error:
            raise ValidationError(error.message) from error

    def clean_attempt(self) -> uuid.UUID | None:
        """Only one that we made counts: a version 7 UUID."""
        found: uuid.UUID | None = self.cleaned_data["attempt"]
        return found if found is not None and found.version == 7 else None


class AutomaticForm(forms.Form):
    """When and how far to fill up, and how much a month."""

    enabled = forms.BooleanField(required=False, label="Top up automatically")
    threshold = DollarsField(label="When the balance falls below")
    target = DollarsField(label="Fill it up to")
    ceiling = DollarsField(label="At most in a month")

    @classmethod
    def of(cls, row: AutomaticTopUp | None) -> AutomaticForm:
        """The form as the settings are."""
        if row is None:
            return cls(initial={"threshold": "5.00", "target": "25.00", "ceiling": "100.00"})
        return cls(
            initial={
                "enabled": row.enabled,
                "threshold": money.decimal(row.threshold_nanos),
                "target": money.decimal(row.target_nanos),
                "ceiling": money.decimal(row.monthly_ceiling_nanos),
            }
        )


class RefundForm(forms.Form):
    """How much to send back. `key` makes two clicks one refund."""

    amount = DollarsField()
    key = forms.UUIDField(widget=forms.HiddenInput)
