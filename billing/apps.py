"""Registers the app and what it keeps for the rooms below it."""

from importlib import import_module

from django.apps import AppConfig

_TOP_UPS_DIFFER = """
    SELECT u.id, u.credited_nanos, coalesce(sum(t.amount_nanos), 0) FROM billing_topup u
    LEFT JOIN billing_transfer t ON t.reference_id = u.reference AND t.reference_type = 'stripe' AND t.kind = 'top_up'
    GROUP BY u.id HAVING u.credited_nanos <> coalesce(sum(t.amount_nanos), 0)
"""
_CREDIT_WITHOUT_A_TOP_UP = """
    SELECT t.id, t.amount_nanos, 0 FROM billing_transfer t
    WHERE t.kind = 'top_up' AND t.reference_type = 'stripe'
      AND NOT EXISTS (SELECT 1 FROM billing_topup u WHERE u.reference = t.reference_id AND u.state = 'paid')
"""


class BillingConfig(AppConfig):
    name = "billing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import key_limits
        from billing import closing, grants, ledger, refunds

        key_limits.register(import_module("billing.limits"))
        import_module("billing.checks")
        ledger.register_proof("a top-up differs from what was credited", _TOP_UPS_DIFFER)
        ledger.register_proof("credit came without a paid top-up", _CREDIT_WITHOUT_A_TOP_UP)
        import_module("billing.signup_credit")
        closing.register_refunder(refunds.of_closed)
        for name, query in grants.PROOFS.items():
            ledger.register_proof(name, query)
