-- What the tables themselves refuse, whoever writes to them. Every request writes a hold, a balance and a transfer twice
-- over, and the server reads each CHECK and each trigger's WHEN from its stored form anew in every statement that could
-- break it. So what can only be wrong when a row is made is looked at then, and conditions name as few words as they can.

-- Which accounts there can be: only a new account, or one that became another, can be wrong in this.
CREATE FUNCTION ledger_check_account() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    is_own boolean := NEW.kind IN ('wallet', 'promo');
BEGIN
    IF NOT is_own AND NEW.kind NOT IN ('provider_payable', 'simulated', 'absorbed', 'promo_expense', 'breakage',
                                       'stripe_clearing', 'stripe_fees', 'tax_payable', 'suspense') THEN
        RAISE EXCEPTION 'there is no account of kind %', NEW.kind USING ERRCODE = 'check_violation';
    ELSIF is_own <> (NEW.organization_id IS NOT NULL) THEN
        RAISE EXCEPTION 'an organization has a wallet and promo, the platform has the others, not so: %', NEW.kind
        USING ERRCODE = 'check_violation';
    ELSIF (NEW.kind = 'provider_payable') <> (NEW.provider <> '') THEN
        RAISE EXCEPTION 'what a provider is owed names it, and nothing else does: % %', NEW.kind, NEW.provider
        USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER account_is_one_of_the_chart BEFORE INSERT OR UPDATE OF kind, organization_id, provider ON billing_account
FOR EACH ROW EXECUTE FUNCTION ledger_check_account();

-- The journal is written once. Owner or not, nobody edits history.
CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: what is booked stays booked', TG_OP, TG_TABLE_NAME USING ERRCODE = 'PX002';
END $$;

CREATE TRIGGER transfer_is_immutable BEFORE UPDATE OR DELETE ON billing_transfer
FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER transfer_is_never_truncated BEFORE TRUNCATE ON billing_transfer
FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER hold_resolves_once BEFORE UPDATE ON billing_hold
FOR EACH ROW WHEN (OLD.resolved_at IS NOT NULL) EXECUTE FUNCTION ledger_refuse_change();

CREATE TRIGGER transfer_keeps_lots AFTER INSERT ON billing_transfer
FOR EACH ROW WHEN (NEW.reference_type <> 'generation') EXECUTE FUNCTION ledger_keep_lots();

-- Balances are updated in place all day: room in the page keeps those updates off the indexes.
ALTER TABLE billing_account SET (fillfactor = 50);
ALTER TABLE billing_limituse SET (fillfactor = 50);
ALTER TABLE billing_hold SET (fillfactor = 80);
