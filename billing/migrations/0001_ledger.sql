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
    limit_cap bigint,
    -- How the caller stands with the tightest limit of each kind.
    requests_limit bigint,
    requests_remaining bigint,
    requests_reset_s bigint,  -- to the end of the window, rounded up
    in_flight_limit bigint,
    in_flight_remaining bigint
);

CREATE TYPE ledger_settlement AS (
    charged_nanos bigint,
    absorbed_nanos bigint
);

-- The id of a system account or of an organization's, made when it is first needed. Two questions, because no index
-- answers IS NOT DISTINCT FROM.
CREATE FUNCTION ledger_account(p_kind text, p_organization bigint, p_provider text) RETURNS bigint
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

-- Reserve `p_amount` for one generation from promo first, then wallet, within every active limit: all fit or none is
-- taken. A simulated request may spend promo only. What is free is what is posted and not held. A wallet in debt holds
-- nothing new, whatever its floor allowed. What a request counts by the minute it never gives back, and a hold that is
-- refused counts nothing.
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
    window_start timestamptz;
    amount bigint;
    free bigint;
    use record;
    rate_ids bigint[] := '{}';
    use_ids bigint[] := '{}';
    amounts bigint[] := '{}';
BEGIN
    IF p_amount < 0 THEN
        RAISE EXCEPTION 'a hold is never negative';
    END IF;
    IF p_amount > 0 THEN
        FOR account IN
            SELECT kind, posted_nanos - held_nanos AS free, frozen FROM billing_account
            WHERE organization_id = p_organization AND kind IN ('promo', 'wallet') AND provider = ''
            ORDER BY kind FOR NO KEY UPDATE
        LOOP
            IF account.frozen OR account.free < 0 THEN
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
            WHEN 'minute' THEN date_trunc('minute', now(), 'UTC')
            WHEN 'day' THEN date_trunc('day', now(), 'UTC')
            WHEN 'month' THEN date_trunc('month', now(), 'UTC')
            ELSE TIMESTAMPTZ '1970-01-01 00:00:00+00' END;
        amount := CASE cap.meter WHEN 'spend' THEN p_amount ELSE 1 END;
        SELECT id, used + held AS taken INTO use FROM billing_limituse
        WHERE limit_id = cap.id AND starts_at = window_start FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            INSERT INTO billing_limituse (limit_id, starts_at) VALUES (cap.id, window_start) ON CONFLICT DO NOTHING;
            SELECT id, used + held AS taken INTO use FROM billing_limituse
            WHERE limit_id = cap.id AND starts_at = window_start FOR NO KEY UPDATE;
        END IF;
        free := GREATEST(cap.most - use.taken, 0);
        IF cap.meter = 'requests' AND free < COALESCE(result.requests_remaining, free + 1) THEN
            result.requests_limit := cap.most;
            result.requests_remaining := free;
            result.requests_reset_s :=
                CEIL(EXTRACT(EPOCH FROM window_start + INTERVAL '1 minute' - now()))::bigint;
        ELSIF cap.meter = 'in_flight' AND free < COALESCE(result.in_flight_remaining, free + 1) THEN
            result.in_flight_limit := cap.most;
            result.in_flight_remaining := free;
        END IF;
        IF free < amount THEN
            result.verdict := 'limit';
            result.available_nanos := free;
            result.limit_scope := cap.scope;
            result.limit_meter := cap.meter;
            result.limit_window := cap."window";
            result.limit_cap := cap.most;
            RETURN result;
        END IF;
        IF cap.meter = 'requests' THEN
            rate_ids := rate_ids || use.id;
        ELSE
            use_ids := use_ids || use.id;
            amounts := amounts || amount;
        END IF;
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
    IF cardinality(rate_ids) > 0 THEN
        UPDATE billing_limituse SET used = used + 1 WHERE id = ANY (rate_ids);
        result.requests_remaining := result.requests_remaining - 1;
    END IF;
    IF cardinality(use_ids) > 0 THEN
        UPDATE billing_limituse SET held = held + taken.amount
        FROM unnest(use_ids, amounts) AS taken(use_id, amount) WHERE id = taken.use_id;
        INSERT INTO billing_holdlimit (hold_id, use_id, amount)
        SELECT p_id, taken.use_id, taken.amount FROM unnest(use_ids, amounts) AS taken(use_id, amount);
        result.in_flight_remaining := result.in_flight_remaining - 1;
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
        WITH given_back AS (DELETE FROM billing_holdlimit WHERE hold_id = p_id RETURNING use_id, amount)
        SELECT g.use_id, g.amount, l.meter FROM given_back g
        JOIN billing_limituse u ON u.id = g.use_id JOIN billing_limit l ON l.id = u.limit_id ORDER BY l.id
    LOOP
        UPDATE billing_limituse
        SET held = held - taken.amount, used = used + CASE taken.meter WHEN 'spend' THEN p_charged ELSE 0 END
        WHERE id = taken.use_id;
    END LOOP;
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
-- Each movement keeps what its wallet or promo had after it: written under that balance's lock, which is taken before the
-- row gets its number, so that an account's rows follow each other and a page of them needs no other row.
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

-- Parts of the above, which nobody calls by themselves.
REVOKE EXECUTE ON FUNCTION ledger_account(text, bigint, text), ledger_absorb(uuid, bigint, text),
    ledger_release_limits(uuid, bigint) FROM PUBLIC;
