"""`manage.py set_routing MODEL` shows who serves a model in which order, and fixes the order or the weights."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from imagesapi.models import Model, Offer

_WEIGHT_MAX = 1_000_000


class Command(BaseCommand):
    help = "Fix the order in which a model's providers are tried, or weigh them where everything else is equal."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", metavar="MODEL", help="slug, for example gpt-image-1.5")
        parser.add_argument("--order", metavar="SLUG,SLUG", help="tried first, in this order; empty for no fixed order")
        parser.add_argument(
            "--weight", metavar="SLUG=NUMBER", action="append", default=[], help="higher goes first among equals"
        )

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        model = Model.objects.filter(slug=options["model"]).first()
        if model is None:
            raise CommandError(f"There is no model {options['model']!r}.")
        offers = {row.provider.slug: row for row in Offer.objects.filter(model=model).select_related("provider")}
        if options["order"] is not None:
            order = [slug.strip() for slug in options["order"].split(",") if slug.strip()]
            for slug in order:
                _known(slug, offers)
            model.provider_order = list(dict.fromkeys(order))
            model.save()
        for text in options["weight"]:
            slug, _, number = text.partition("=")
            offer = _known(slug, offers)
            try:
                offer.weight = int(number)
            except ValueError as error:
                raise CommandError(f"A weight is a whole number, as in {slug}=10, not {number!r}.") from error
            if abs(offer.weight) > _WEIGHT_MAX:
                raise CommandError(f"A weight is from -{_WEIGHT_MAX} to {_WEIGHT_MAX}, not {number!r}.")
            offer.save()
        weights = ", ".join(f"{slug}={offer.weight}" for slug, offer in sorted(offers.items()))
        self.stdout.write(f"{model.slug}: order {', '.join(model.provider_order) or 'not fixed'}; weights {weights}")


def _known(slug: str, offers: dict[str, Offer]) -> Offer:
    if slug not in offers:
        raise CommandError(f"{slug!r} does not offer this model; offered by: {', '.join(sorted(offers)) or 'nobody'}.")
    return offers[slug]
