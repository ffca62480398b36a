-- Every request writes a hold, a balance and a transfer twice over, and the server reads each CHECK and each trigger's
-- WHEN from its stored form anew in every statement that could break it. So what can only be wrong when a row is made is
-- looked at then, and conditions name as few words as they can. Nothing that was refused is taken now.

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

DROP TRIGGER hold_resolves_once ON billing_hold;
CREATE TRIGGER hold_resolves_once BEFORE UPDATE ON billing_hold
FOR EACH ROW WHEN (OLD.resolved_at IS NOT NULL) EXECUTE FUNCTION ledger_refuse_change();

CREATE OR REPLACE FUNCTION ledger_keep_lots() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    owner_id bigint;
BEGIN
    IF NEW.kind NOT IN ('grant', 'true_up_promo', 'grant_expired') THEN
        RETURN NULL;
    END IF;
    SELECT organization_id INTO owner_id FROM billing_account
    WHERE id = CASE NEW.kind WHEN 'grant_expired' THEN NEW.debit_account_id ELSE NEW.credit_account_id END
    FOR NO KEY UPDATE;
    PERFORM ledger_lots_attribute(owner_id);
    IF NEW.kind = 'grant_expired' THEN
        PERFORM ledger_lots_take(owner_id, NEW.amount_nanos, true);
    ELSE
        INSERT INTO billing_grant (organization_id, transfer_id, amount_nanos)
        VALUES (owner_id, NEW.id, NEW.amount_nanos);
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER transfer_keeps_lots ON billing_transfer;
CREATE TRIGGER transfer_keeps_lots AFTER INSERT ON billing_transfer
FOR EACH ROW WHEN (NEW.reference_type <> 'generation') EXECUTE FUNCTION ledger_keep_lots();

-- The id of a system account or of an organization's, made when it is first needed. Two questions, because no index
-- answers IS NOT DISTINCT FROM.
CREATE OR REPLACE FUNCTION ledger_account(p_kind text, p_organization bigint, p_provider text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    found_id bigint;
BEGIN
    FOR attempt IN 1..2 LOOP
        IF p_organization IS NULL THEN
            SELECT id INTO found_id FROM billing_account
            WHERE organization_id IS NULL AND kind = p_kind AND provider = p_provider;
        ELSE
            SELECT id INTO found_id FROM billing_account
            WHERE organization_id = p_organization AND kind = p_kind AND provider = p_provider;
        END IF;
        EXIT WHEN found_id IS NOT NULL;
        INSERT INTO billing_account (kind, organization_id, provider) VALUES (p_kind, p_organization, p_provider)
        ON CONFLICT DO NOTHING;
    END LOOP;
    RETURN found_id;
END $$;

-- Give back what a hold took from limits; what was charged stays used where dollars are counted.
CREATE OR REPLACE FUNCTION ledger_release_limits(p_id uuid, p_charged bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    taken record;
BEGIN
    FOR taken IN
        WITH given_back AS (DELETE FROM billing_holdlimit WHERE hold_id = p_id RETURNING use_id, amount)
        SELECT g.use_id, g.amount, l.meter FROM given_back g
        JOIN billing_limituse u ON u.id = g.use_id JOIN billing_limit l ON l.id = u.limit_id ORDER BY l.id
    LOOP
        UPDATE billing_limituse
        SET held = held - taken.amount, used = used + CASE taken.meter WHEN 'spend' THEN p_charged ELSE 0 END
        WHERE id = taken.use_id;
    END LOOP;
END $$;

-- As before, with an account's id from the row that was just changed.
CREATE OR REPLACE FUNCTION ledger_settle(
    p_id uuid, p_cost bigint, p_provider text, p_simulated boolean, p_absorbed bigint
) RETURNS ledger_settlement
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    hold billing_hold;
    result ledger_settlement;
    from_promo bigint;
    from_wallet bigint;
    payee bigint;
    promo_id bigint;
    promo_left bigint;
    wallet_id bigint;
    wallet_left bigint;
BEGIN
    UPDATE billing_hold
    SET state = 'settled', resolved_at = now(), charged_nanos = LEAST(p_cost, promo_nanos + wallet_nanos)
    WHERE id = p_id AND state = 'held' RETURNING * INTO hold;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'hold % is not open', p_id USING ERRCODE = 'PX001';
    END IF;
    result.charged_nanos := hold.charged_nanos;
    result.absorbed_nanos := CASE WHEN p_simulated THEN 0 ELSE p_cost - hold.charged_nanos + p_absorbed END;
    from_promo := LEAST(hold.charged_nanos, hold.promo_nanos);
    from_wallet := hold.charged_nanos - from_promo;
    IF hold.promo_nanos > 0 THEN
        UPDATE billing_account SET posted_nanos = posted_nanos - from_promo, held_nanos = held_nanos - hold.promo_nanos
        WHERE organization_id = hold.organization_id AND kind = 'promo' AND provider = ''
        RETURNING id, posted_nanos INTO promo_id, promo_left;
    END IF;
    IF hold.wallet_nanos > 0 THEN
        UPDATE billing_account SET posted_nanos = posted_nanos - from_wallet, held_nanos = held_nanos - hold.wallet_nanos
        WHERE organization_id = hold.organization_id AND kind = 'wallet' AND provider = ''
        RETURNING id, posted_nanos INTO wallet_id, wallet_left;
    END IF;
    IF hold.charged_nanos > 0 THEN
        payee := CASE WHEN p_simulated THEN ledger_account('simulated', NULL, '')
                      ELSE ledger_account('provider_payable', NULL, p_provider) END;
        IF from_promo > 0 THEN
            INSERT INTO billing_transfer
                (debit_account_id, credit_account_id, amount_nanos, kind, reference_type, reference_id, balance_nanos)
            VALUES (promo_id, payee, from_promo, 'charge_promo', 'generation', p_id, promo_left);
        END IF;
        IF from_wallet > 0 THEN
            INSERT INTO billing_transfer
                (debit_account_id, credit_account_id, amount_nanos, kind, reference_type, reference_id, balance_nanos)
            VALUES (wallet_id, payee, from_wallet, 'charge', 'generation', p_id, wallet_left);
        END IF;
    END IF;
    IF result.absorbed_nanos > 0 THEN
        PERFORM ledger_absorb(p_id, result.absorbed_nanos, p_provider);
    END IF;
    PERFORM ledger_release_limits(p_id, hold.charged_nanos);
    RETURN result;
END $$;
