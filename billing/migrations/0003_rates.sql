-- Rates: a limit may count requests by the minute. What a request counts there it never gives back, and a hold that is
-- refused counts nothing. The verdict also says how the caller stands with the tightest limit of each kind.

ALTER TYPE ledger_verdict
    ADD ATTRIBUTE requests_limit bigint,
    ADD ATTRIBUTE requests_remaining bigint,
    ADD ATTRIBUTE requests_reset_s bigint,  -- to the end of the window, rounded up
    ADD ATTRIBUTE in_flight_limit bigint,
    ADD ATTRIBUTE in_flight_remaining bigint;

-- What is free is what is posted and not held. A wallet in debt holds nothing new, whatever its floor allowed.
CREATE OR REPLACE FUNCTION ledger_hold(
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

-- Minutes that are long over: without this a busy key would leave 1 440 rows a day.
CREATE FUNCTION ledger_forget_rates() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    forgotten bigint;
BEGIN
    DELETE FROM billing_limituse USING billing_limit
    WHERE billing_limit.id = limit_id AND meter = 'requests' AND starts_at < now() - INTERVAL '1 day';
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END $$;
