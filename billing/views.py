"""The billing page: balance, top-ups, saved card, automatic top-up, refunds. One template for each section."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import structlog
from allauth.account.adapter import get_adapter
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.current import MemberRequest, member_page
from accounts.models import Organization
from accounts.roles import Right, allows
from billing import automatic, ledger, refunds, stripe_gateway, top_ups
from billing.forms import AutomaticForm, RefundForm, TopUpForm
from billing.stripe_facts import Missing, Refused, Unclear
from billing.stripe_inbox import forget_card
from billing.stripe_models import UNFINISHED, AutomaticTopUp, StripeCustomer, TopUp, TopUpState
from core import errors, ids

log = structlog.get_logger(__name__)

Section = Callable[[MemberRequest], dict[str, Any]]


@require_safe
@member_page()
def page(request: MemberRequest) -> HttpResponse:
    """Everything about an organization's money, for all its members; the forms for those who look after it."""
    return _page(request)


def _page(request: MemberRequest, *, status: int = 200, **forms: Any) -> HttpResponse:
    context: dict[str, Any] = {
        "may_pay": allows(request.membership.role, Right.MANAGE_BILLING),
        "may_refund": allows(request.membership.role, Right.REFUND),
        "stripe_on": stripe_gateway.configured(),
        "stripe_is_pretended": settings.STRIPE_FAKE and stripe_gateway.configured(),
    }
    for section in SECTIONS:
        context |= section(request)
    return render(request, "billing/page.html", context | forms, status=status)


def _balance(request: MemberRequest) -> dict[str, Any]:
    organization_id = request.membership.organization_id
    found = ledger.balance(organization_id)
    return {
        "balance": found,
        "in_debt": ledger.unspent_paid_nanos(organization_id) < 0,
        "is_frozen": ledger.is_frozen(organization_id),
    }


def _top_up(request: MemberRequest) -> dict[str, Any]:
    least_nanos, most_nanos = top_ups.limits_nanos()
    return {
        "top_up_form": TopUpForm(initial={"attempt": ids.new()}),
        "offers_nanos": top_ups.offers_nanos(),
        "least_nanos": least_nanos,
        "most_nanos": most_nanos,
        "top_ups": top_ups.listed(request.membership.organization),
    }


def _card(request: MemberRequest) -> dict[str, Any]:
    organization = request.membership.organization
    return {
        "card": StripeCustomer.objects.filter(organization=organization).exclude(payment_method="").first(),
        "has_customer": StripeCustomer.objects.filter(organization=organization).exclude(stripe_id="").exists(),
    }


def _automatic(request: MemberRequest) -> dict[str, Any]:
    row = AutomaticTopUp.objects.filter(organization=request.membership.organization).first()
    return {"automatic": row, "automatic_form": AutomaticForm.of(row)}


def _refund(request: MemberRequest) -> dict[str, Any]:
    return {
        "unspent": refunds.unspent(request.membership.organization),
        "refund_form": RefundForm(initial={"key": uuid.uuid4()}),
    }


# What the page is put together from; each gives what its template `billing/_NAME.html` needs.
SECTIONS: tuple[Section, ...] = (_balance, _top_up, _card, _automatic, _refund)


# --- top-ups ----------------------------------------------------------------------------------------------------------


@require_POST
@member_page(right=Right.MANAGE_BILLING)
def top_up(request: MemberRequest) -> HttpResponse:
    """Start a top-up and go to its checkout."""
    form = TopUpForm(request.POST)
    if not form.is_valid():
        return _page(request, status=400, top_up_form=form)
    try:
        session = top_ups.start(
            request.membership.organization,
            user=request.user,
            amount_nanos=form.cleaned_data["amount"],
            save_card=form.cleaned_data["save_card"],
            ip=_address(request),
            attempt=form.cleaned_data["attempt"],
        )
    except errors.PixelparError as error:
        return _back(request, error)
    return redirect(session.url) if session.url else redirect("billing:page")


def _address(request: HttpRequest) -> str:
    """Where the request comes from, as the sign-in pages see it; blank when nobody can tell."""
    try:
        return str(get_adapter().get_client_ip(request))
    except PermissionDenied:
        return ""


@require_safe
@member_page()
def top_up_done(request: MemberRequest, word: str) -> HttpResponse:
    """Where Stripe sends people back to. It says how the top-up stands on record and grants nothing."""
    found = _mine(request, word)
    context = {
        "top_up": found,
        "waits": found.state in (TopUpState.CREATED, TopUpState.OPEN, TopUpState.PROCESSING),
        "cancelled": "cancelled" in request.GET and found.state in UNFINISHED,
        "balance": ledger.balance(request.membership.organization_id),
    }
    return render(request, "billing/top_up_done.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@member_page(right=Right.MANAGE_BILLING)
def top_up_confirm(request: MemberRequest, word: str) -> HttpResponse:
    """Where the mail leads when the bank wants an automatic top-up confirmed."""
    found = _mine(request, word)
    if request.method != "POST":
        waits = found.state == TopUpState.ACTION
        return render(request, "billing/top_up_confirm.html", {"top_up": found, "waits": waits})
    where = reverse("billing:top-up-done", args=[found.word])
    try:
        leads_to = automatic.confirm(found, return_url=f"{settings.BASE_URL}{where}")
    except errors.PixelparError as error:
        return _back(request, error)
    return redirect(leads_to or where)


def _mine(request: MemberRequest, word: str) -> TopUp:
    found = top_ups.find(request.membership.organization, word)
    if found is None:
        raise Http404("There is no such top-up.")
    return found


# --- the card, automatic top-up, refunds ------------------------------------------------------------------------------


@require_POST
@member_page(right=Right.MANAGE_BILLING)
def automatic_save(request: MemberRequest) -> HttpResponse:
    """Set automatic top-up up, or switch it off."""
    form = AutomaticForm(request.POST)
    if not form.is_valid():
        return _page(request, status=400, automatic_form=form)
    try:
        automatic.save(
            request.membership.organization,
            enabled=form.cleaned_data["enabled"],
            threshold_nanos=form.cleaned_data["threshold"],
            target_nanos=form.cleaned_data["target"],
            monthly_ceiling_nanos=form.cleaned_data["ceiling"],
        )
    except errors.InvalidRequest as error:
        form.add_error(error.param if error.param in form.fields else None, error.message)
        return _page(request, status=400, automatic_form=form)
    messages.success(request, f"Automatic top-up is {'on' if form.cleaned_data['enabled'] else 'off'}.")
    return redirect("billing:page")


@require_POST
@member_page(right=Right.MANAGE_BILLING)
def card_remove(request: MemberRequest) -> HttpResponse:
    """Forget the saved card, here and at Stripe."""
    card = (
        StripeCustomer.objects.filter(organization=request.membership.organization).exclude(payment_method="").first()
    )
    if card is not None:
        try:
            stripe_gateway.forget_card(card.payment_method)
        except (Refused, Missing, Unclear) as error:
            log.warning("a card could not be removed", error=str(error))
            messages.error(request, "Stripe does not answer just now. The card is still saved; try again in a minute.")
            return redirect("billing:page")
        forget_card(card.payment_method)
        messages.success(request, "The card is removed.")
    return redirect("billing:page")


@require_POST
@member_page(right=Right.MANAGE_BILLING)
def portal(request: MemberRequest) -> HttpResponse:
    """Go to the customer's own pages at Stripe."""
    customer = StripeCustomer.objects.filter(organization=request.membership.organization).exclude(stripe_id="").first()
    if customer is None or not stripe_gateway.configured():
        messages.error(request, "There is nothing at Stripe yet: make a top-up first.")
        return redirect("billing:page")
    try:
        leads_to = stripe_gateway.open_portal(
            customer.stripe_id, return_url=f"{settings.BASE_URL}{reverse('billing:page')}"
        )
    except (Refused, Missing, Unclear) as error:
        log.warning("the portal could not be opened", error=str(error))
        messages.error(request, "Stripe does not answer just now. Try again in a minute.")
        return redirect("billing:page")
    return redirect(leads_to)


@require_POST
@member_page(right=Right.REFUND)
def refund(request: MemberRequest) -> HttpResponse:
    """Send unspent paid credit back to the card it came from."""
    if not stripe_gateway.configured():
        messages.error(request, "Refunds are made by this server's operator.")
        return redirect("billing:page")
    form = RefundForm(request.POST)
    if not form.is_valid():
        return _page(request, status=400, refund_form=form)
    organization: Organization = request.membership.organization
    try:
        refunds.ask(
            organization, user=request.user, amount_nanos=form.cleaned_data["amount"], key=form.cleaned_data["key"]
        )
    except errors.InvalidRequest as error:
        form.add_error(error.param if error.param in form.fields else None, error.message)
        return _page(request, status=400, refund_form=form)
    messages.success(request, "The refund is on its way. Banks take up to ten days to show it.")
    return redirect("billing:page")


def _back(request: MemberRequest, error: errors.PixelparError) -> HttpResponse:
    """To the page, with what went wrong."""
    messages.error(request, error.message)
    return redirect("billing:page")
