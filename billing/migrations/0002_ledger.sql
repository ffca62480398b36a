-- The functions through which all money moves. They run as their owner: the application's role can call them, and can
-- neither write the journal nor a balance by hand. Amounts are nano-USD. Locks are always taken in one order, the hold,
-- promo, wallet, then limits by id, so that nothing waits in a circle.

CREATE TYPE ledger_verdict AS (
    verdict text,            -- held | insufficient | frozen | limit
    promo_nanos bigint,      -- reserved from each
    wallet_nanos bigint,
    available_nanos bigint,  -- what the failing limit or the balance had left, before this hold
    limit_scope text,
    limit_meter text,
    limit_window text,
    limit_cap bigint
);

CREATE TYPE ledger_settlement AS (
    charged_nanos bigint,
    absorbed_nanos bigint
);

-- The id of a system account or of an organization's, made when it is first needed.
CREATE FUNCTION ledger_account(p_kind text, p_organization bigint, p_provider text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    found_id bigint;
BEGIN
    SELECT id INTO found_id FROM billing_account
    WHERE kind = p_kind AND organization_id IS NOT DISTINCT FROM p_organization AND provider = p_provider;
    IF found_id IS NULL THEN
        INSERT INTO billing_account (kind, organization_id, provider) VALUES (p_kind, p_organization, p_provider)
        ON CONFLICT DO NOTHING;
        SELECT id INTO found_id FROM billing_account
        WHERE kind = p_kind AND organization_id IS NOT DISTINCT FROM p_organization AND provider = p_provider;
    END IF;
    RETURN found_id;
END $$;

-- Reserve `p_amount` for one generation from promo first, then wallet, within every active limit: all fit or none is
-- taken. A simulated request may spend promo only.
CREATE FUNCTION ledger_hold(
    p_id uuid, p_organization bigint, p_key bigint, p_member bigint, p_amount bigint, p_promo_only boolean
) RETURNS ledger_verdict
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    result ledger_verdict;
    account record;
    promo_left bigint := 0;
    wallet_left bigint := 0;
    cap record;
    window_start date;
    amount bigint;
    use record;
    use_ids bigint[] := '{}';
    amounts bigint[] := '{}';
BEGIN
    IF p_amount < 0 THEN
        RAISE EXCEPTION 'a hold is never negative';
    END IF;
    IF p_amount > 0 THEN
        FOR account IN
            SELECT kind, posted_nanos - held_nanos - floor_nanos AS free, frozen FROM billing_account
            WHERE organization_id = p_organization AND kind IN ('promo', 'wallet') AND provider = ''
            ORDER BY kind FOR NO KEY UPDATE
        LOOP
            IF account.frozen THEN
                result.verdict := 'frozen';
                RETURN result;
            END IF;
            IF account.kind = 'promo' THEN
                promo_left := account.free;
            ELSIF NOT p_promo_only THEN
                wallet_left := account.free;
            END IF;
        END LOOP;
        result.available_nanos := promo_left + wallet_left;
        IF result.available_nanos < p_amount THEN
            result.verdict := 'insufficient';
            RETURN result;
        END IF;
    END IF;
    result.promo_nanos := LEAST(GREATEST(promo_left, 0), p_amount);
    result.wallet_nanos := p_amount - result.promo_nanos;
    IF result.wallet_nanos > wallet_left THEN
        result.verdict := 'insufficient';
        RETURN result;
    END IF;

    FOR cap IN
        SELECT id, scope, meter, "window", billing_limit.cap AS most FROM billing_limit
        WHERE organization_id = p_organization AND active
          AND (scope = 'organization' OR scope = 'key' AND scope_id = p_key OR scope = 'member' AND scope_id = p_member)
        ORDER BY id
    LOOP
        window_start := CASE cap."window"
            WHEN 'day' THEN (now() AT TIME ZONE 'UTC')::date
            WHEN 'month' THEN date_trunc('month', now() AT TIME ZONE 'UTC')::date
            ELSE DATE '1970-01-01' END;
        amount := CASE cap.meter WHEN 'spend' THEN p_amount ELSE 1 END;
        INSERT INTO billing_limituse (limit_id, starts_on) VALUES (cap.id, window_start) ON CONFLICT DO NOTHING;
        SELECT id, used + held AS taken INTO use FROM billing_limituse
        WHERE limit_id = cap.id AND starts_on = window_start FOR NO KEY UPDATE;
        IF use.taken + amount > cap.most THEN
            result.verdict := 'limit';
            result.available_nanos := GREATEST(cap.most - use.taken, 0);
            result.limit_scope := cap.scope;
            result.limit_meter := cap.meter;
            result.limit_window := cap."window";
            result.limit_cap := cap.most;
            RETURN result;
        END IF;
        use_ids := use_ids || use.id;
        amounts := amounts || amount;
    END LOOP;

    INSERT INTO billing_hold (id, organization_id, promo_nanos, wallet_nanos)
    VALUES (p_id, p_organization, result.promo_nanos, result.wallet_nanos);
    IF result.promo_nanos > 0 THEN
        UPDATE billing_account SET held_nanos = held_nanos + result.promo_nanos
        WHERE organization_id = p_organization AND kind = 'promo' AND provider = '';
    END IF;
    IF result.wallet_nanos > 0 THEN
        UPDATE billing_account SET held_nanos = held_nanos + result.wallet_nanos
        WHERE organization_id = p_organization AND kind = 'wallet' AND provider = '';
    END IF;
    IF cardinality(use_ids) > 0 THEN
        UPDATE billing_limituse SET held = held + taken.amount
        FROM unnest(use_ids, amounts) AS taken(use_id, amount) WHERE id = taken.use_id;
        INSERT INTO billing_holdlimit (hold_id, use_id, amount)
        SELECT p_id, taken.use_id, taken.amount FROM unnest(use_ids, amounts) AS taken(use_id, amount);
    END IF;
    result.verdict := 'held';
    RETURN result;
END $$;

-- Give back what a hold took from limits; what was charged stays used where dollars are counted.
CREATE FUNCTION ledger_release_limits(p_id uuid, p_charged bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    taken record;
BEGIN
    FOR taken IN
        SELECT h.use_id, h.amount, l.meter FROM billing_holdlimit h
        JOIN billing_limituse u ON u.id = h.use_id JOIN billing_limit l ON l.id = u.limit_id
        WHERE h.hold_id = p_id ORDER BY l.id
    LOOP
        UPDATE billing_limituse
        SET held = held - taken.amount, used = used + CASE taken.meter WHEN 'spend' THEN p_charged ELSE 0 END
        WHERE id = taken.use_id;
    END LOOP;
    DELETE FROM billing_holdlimit WHERE hold_id = p_id;
END $$;

-- What the provider billed and no customer pays.
CREATE FUNCTION ledger_absorb(p_id uuid, p_amount bigint, p_provider text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    payee bigint;
BEGIN
    IF p_amount > 0 THEN
        -- The payee first, as a charge does: two first uses at once must not wait for each other.
        payee := ledger_account('provider_payable', NULL, p_provider);
        INSERT INTO billing_transfer
            (debit_account_id, credit_account_id, amount_nanos, kind, reference_type, reference_id)
        VALUES (ledger_account('absorbed', NULL, ''), payee, p_amount, 'absorbed', 'generation', p_id);
    END IF;
END $$;

-- Resolve a hold to its real cost. Never more than the hold is charged; the excess, and `p_absorbed` on top (what was
-- billed but not delivered), is the platform's. Raises when the hold is not open: a hold resolves exactly once.
CREATE FUNCTION ledger_settle(
    p_id uuid, p_cost bigint, p_provider text, p_simulated boolean, p_absorbed bigint
) RETURNS ledger_settlement
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    hold billing_hold;
    result ledger_settlement;
    from_promo bigint;
    from_wallet bigint;
    payee bigint;
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
        WHERE organization_id = hold.organization_id AND kind = 'promo' AND provider = '';
    END IF;
    IF hold.wallet_nanos > 0 THEN
        UPDATE billing_account SET posted_nanos = posted_nanos - from_wallet, held_nanos = held_nanos - hold.wallet_nanos
        WHERE organization_id = hold.organization_id AND kind = 'wallet' AND provider = '';
    END IF;
    IF hold.charged_nanos > 0 THEN
        payee := CASE WHEN p_simulated THEN ledger_account('simulated', NULL, '')
                      ELSE ledger_account('provider_payable', NULL, p_provider) END;
        IF from_promo > 0 THEN
            INSERT INTO billing_transfer
                (debit_account_id, credit_account_id, amount_nanos, kind, reference_type, reference_id)
            VALUES (ledger_account('promo', hold.organization_id, ''), payee, from_promo, 'charge_promo', 'generation', p_id);
        END IF;
        IF from_wallet > 0 THEN
            INSERT INTO billing_transfer
                (debit_account_id, credit_account_id, amount_nanos, kind, reference_type, reference_id)
            VALUES (ledger_account('wallet', hold.organization_id, ''), payee, from_wallet, 'charge', 'generation', p_id);
        END IF;
    END IF;
    PERFORM ledger_absorb(p_id, result.absorbed_nanos, p_provider);
    PERFORM ledger_release_limits(p_id, hold.charged_nanos);
    RETURN result;
END $$;

-- Give a hold back whole. What a provider billed without delivering is booked to the platform.
CREATE FUNCTION ledger_void(p_id uuid, p_provider text, p_absorbed bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    hold billing_hold;
BEGIN
    UPDATE billing_hold SET state = 'voided', resolved_at = now() WHERE id = p_id AND state = 'held' RETURNING * INTO hold;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'hold % is not open', p_id USING ERRCODE = 'PX001';
    END IF;
    IF hold.promo_nanos > 0 THEN
        UPDATE billing_account SET held_nanos = held_nanos - hold.promo_nanos
        WHERE organization_id = hold.organization_id AND kind = 'promo' AND provider = '';
    END IF;
    IF hold.wallet_nanos > 0 THEN
        UPDATE billing_account SET held_nanos = held_nanos - hold.wallet_nanos
        WHERE organization_id = hold.organization_id AND kind = 'wallet' AND provider = '';
    END IF;
    PERFORM ledger_absorb(p_id, p_absorbed, p_provider);
    PERFORM ledger_release_limits(p_id, 0);
    RETURN true;
END $$;

-- Promotional credit. The reference makes it happen once, however often it is asked for; true when it was booked now.
CREATE FUNCTION ledger_grant(p_organization bigint, p_amount bigint, p_reference uuid, p_note text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    promo bigint := ledger_account('promo', p_organization, '');
    booked bigint;
BEGIN
    INSERT INTO billing_transfer
        (debit_account_id, credit_account_id, amount_nanos, kind, reference_type, reference_id, note)
    VALUES (ledger_account('promo_expense', NULL, ''), promo, p_amount, 'grant', 'grant', p_reference, p_note)
    ON CONFLICT DO NOTHING RETURNING id INTO booked;
    IF booked IS NULL THEN
        RETURN false;
    END IF;
    UPDATE billing_account SET posted_nanos = posted_nanos + p_amount WHERE id = promo;
    RETURN true;
END $$;

-- Parts of the above, which nobody calls by themselves.
REVOKE EXECUTE ON FUNCTION ledger_account(text, bigint, text), ledger_absorb(uuid, bigint, text),
    ledger_release_limits(uuid, bigint) FROM PUBLIC;

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
FOR EACH ROW WHEN (OLD.state <> 'held') EXECUTE FUNCTION ledger_refuse_change();

-- Balances are updated in place all day: room in the page keeps those updates off the indexes.
ALTER TABLE billing_account SET (fillfactor = 50);
ALTER TABLE billing_limituse SET (fillfactor = 50);
ALTER TABLE billing_hold SET (fillfactor = 80);
