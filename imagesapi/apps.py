"""Registers the app, and what other rooms must know of it."""

from django.apps import AppConfig

_UNFINISHED_BUSINESS = """
    SELECT h.id, 1, 0 FROM billing_hold h JOIN imagesapi_generation g ON g.id = h.id
    WHERE h.state = 'held' AND g.status NOT IN ('pending', 'processing')
       OR h.state <> 'held' AND g.status IN ('pending', 'processing')
"""
_CHARGES_DIFFER = """
    SELECT g.id, coalesce(g.cost_nanos, 0), coalesce(h.charged_nanos, 0) FROM imagesapi_generation g
    JOIN billing_hold h ON h.id = g.id
    WHERE coalesce(g.cost_nanos, 0) <> coalesce(h.charged_nanos, 0)
"""
_CHARGED_WITHOUT_AN_IMAGE = """
    SELECT h.id, h.charged_nanos, 0 FROM billing_hold h
    WHERE h.charged_nanos > 0 AND EXISTS (SELECT 1 FROM imagesapi_generation g WHERE g.id = h.id)
      AND NOT EXISTS (SELECT 1 FROM imagesapi_image i WHERE i.generation_id = h.id)
"""

# What bills led to is written twice, by the ledger and beside it: as what, for whom and how much must agree.
_ADJUSTMENTS_DIFFER = """
    SELECT coalesce(b.id, t.reference_id), coalesce(b.amount_nanos, 0), coalesce(t.amount_nanos, 0)
    FROM imagesapi_billadjustment b
    FULL JOIN (SELECT * FROM billing_transfer WHERE reference_type = 'bill') t
        ON t.reference_id = b.id AND t.kind = b.kind
    WHERE b.amount_nanos IS DISTINCT FROM t.amount_nanos
"""
# The attempt that succeeded is where reconciliation looks for the money.
_PAID_WITHOUT_AN_ATTEMPT = """
    SELECT g.id, t.amount_nanos, 0 FROM billing_transfer t
    JOIN billing_account payee ON payee.id = t.credit_account_id AND payee.kind = 'provider_payable'
    JOIN imagesapi_generation g ON g.id = t.reference_id AND t.reference_type = 'generation'
    WHERE NOT EXISTS (
        SELECT 1 FROM imagesapi_attempt a
        WHERE a.generation_id = g.id AND a.status = 'succeeded' AND a.provider = payee.provider
    )
"""


class ImagesApiConfig(AppConfig):
    name = "imagesapi"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import callers
        from billing import ledger
        from core import health
        from imagesapi import (
            breakers,
            catalogue_version,  # noqa: F401 - connects the signals that follow operators' edits
            own_keys,
            purging,  # noqa: F401 - hears of organizations that leave
            store,
            webhooks,  # noqa: F401 - hears of budgets
        )

        health.register("store", store.require_room)
        callers.register_fact("catalogue_version", "SELECT number FROM imagesapi_catalogversion LIMIT 1")
        callers.register_fact("breakers", breakers.FACT)
        callers.register_fact("own_keys_version", own_keys.FACT)
        ledger.register_proof("a hold and its generation disagree", _UNFINISHED_BUSINESS)
        ledger.register_proof("a generation's cost differs from its charge", _CHARGES_DIFFER)
        ledger.register_proof("something was charged without an image", _CHARGED_WITHOUT_AN_IMAGE)
        ledger.register_proof("a bill's adjustment differs from its transfer", _ADJUSTMENTS_DIFFER)
        ledger.register_proof("a provider is owed for no attempt that succeeded", _PAID_WITHOUT_AN_ATTEMPT)
