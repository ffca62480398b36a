-- Bookings beside usage, and what else is done to balances as a whole.

-- Promotional credit. The reference makes it happen once, however often it is asked for; true when it was booked now.
CREATE FUNCTION ledger_grant(p_organization bigint, p_amount bigint, p_reference uuid, p_note text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    promo bigint := ledger_account('promo', p_organization, '');
    before bigint;
    booked bigint;
BEGIN
    SELECT posted_nanos INTO before FROM billing_account WHERE id = promo FOR NO KEY UPDATE;
    INSERT INTO billing_transfer
        (debit_account_id, credit_account_id, amount_nanos, kind, reference_type, reference_id, note, balance_nanos)
    VALUES (ledger_account('promo_expense', NULL, ''), promo, p_amount, 'grant', 'grant', p_reference, p_note,
            before + p_amount)
    ON CONFLICT DO NOTHING RETURNING id INTO booked;
    IF booked IS NULL THEN
        RETURN false;
    END IF;
    UPDATE billing_account SET posted_nanos = posted_nanos + p_amount WHERE id = promo;
    RETURN true;
END $$;

-- Money that comes in and goes out beside usage: one function books every such movement, once per reference, between the
-- two accounts that its kind names. Only what is taken from us outside takes a wallet below zero: a dispute, and a refund
-- that somebody made at Stripe itself. The floor follows the debt down and up again, and while there is a debt nothing new
-- is held.
CREATE FUNCTION ledger_post(
    p_kind text, p_organization bigint, p_provider text, p_amount bigint,
    p_reference_type text, p_reference uuid, p_note text
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    debit_kind text;
    credit_kind text;
    debit_id bigint;
    credit_id bigint;
    own_id bigint;
    own billing_account;
    booked bigint;
BEGIN
    SELECT sides.debit, sides.credit INTO debit_kind, credit_kind FROM (VALUES
        ('top_up', 'stripe_clearing', 'wallet'),
        ('top_up_tax', 'stripe_clearing', 'tax_payable'),
        ('stripe_fee', 'stripe_fees', 'stripe_clearing'),
        ('refund', 'wallet', 'stripe_clearing'),
        ('refund_outside', 'wallet', 'stripe_clearing'),
        ('refund_tax', 'tax_payable', 'stripe_clearing'),
        ('refund_failed', 'stripe_clearing', 'wallet'),
        ('refund_tax_failed', 'stripe_clearing', 'tax_payable'),
        ('dispute', 'wallet', 'stripe_clearing'),
        ('dispute_tax', 'tax_payable', 'stripe_clearing'),
        ('dispute_won', 'stripe_clearing', 'wallet'),
        ('dispute_tax_won', 'stripe_clearing', 'tax_payable'),
        ('dispute_fee', 'stripe_fees', 'stripe_clearing'),
        ('suspense', 'stripe_clearing', 'suspense'),
        ('suspense_returned', 'suspense', 'stripe_clearing'),
        ('grant', 'promo_expense', 'promo'),
        ('grant_expired', 'promo', 'breakage'),
        ('true_up', 'provider_payable', 'wallet'),
        ('true_up_promo', 'provider_payable', 'promo'),
        ('bill_absorbed', 'absorbed', 'provider_payable'),
        ('bill_credited', 'provider_payable', 'absorbed'),
        ('forfeited', 'wallet', 'breakage'),
        ('debt_written_off', 'breakage', 'wallet')
    ) AS sides(kind, debit, credit) WHERE sides.kind = p_kind;
    IF debit_kind IS NULL THEN
        RAISE EXCEPTION 'nothing is booked as %', p_kind;
    END IF;
    IF p_amount <= 0 THEN
        RAISE EXCEPTION 'a transfer is never % nano-USD', p_amount;
    END IF;
    debit_id := CASE WHEN debit_kind IN ('wallet', 'promo') THEN ledger_account(debit_kind, p_organization, '')
                     WHEN debit_kind = 'provider_payable' THEN ledger_account(debit_kind, NULL, p_provider)
                     ELSE ledger_account(debit_kind, NULL, '') END;
    credit_id := CASE WHEN credit_kind IN ('wallet', 'promo') THEN ledger_account(credit_kind, p_organization, '')
                      WHEN credit_kind = 'provider_payable' THEN ledger_account(credit_kind, NULL, p_provider)
                      ELSE ledger_account(credit_kind, NULL, '') END;
    own_id := CASE WHEN debit_kind IN ('wallet', 'promo') THEN debit_id
                   WHEN credit_kind IN ('wallet', 'promo') THEN credit_id END;
    IF own_id IS NOT NULL THEN
        -- The balance's lock first, so that two bookings of one organization never wait for each other in a circle.
        SELECT * INTO own FROM billing_account WHERE id = own_id FOR NO KEY UPDATE;
    END IF;
    INSERT INTO billing_transfer
        (debit_account_id, credit_account_id, amount_nanos, kind, reference_type, reference_id, note, balance_nanos)
    VALUES (debit_id, credit_id, p_amount, p_kind, p_reference_type, p_reference, p_note,
            own.posted_nanos + CASE own_id WHEN debit_id THEN -p_amount WHEN credit_id THEN p_amount END)
    ON CONFLICT DO NOTHING RETURNING id INTO booked;
    IF booked IS NULL THEN
        RETURN false;
    END IF;
    IF own_id = debit_id THEN
        IF p_kind NOT IN ('dispute', 'refund_outside') AND own.posted_nanos - own.held_nanos < p_amount THEN
            RAISE EXCEPTION '% nano-USD are not there to be booked as %', p_amount, p_kind USING ERRCODE = 'PX003';
        END IF;
        UPDATE billing_account
        SET posted_nanos = posted_nanos - p_amount,
            floor_nanos = LEAST(floor_nanos, posted_nanos - p_amount - held_nanos)
        WHERE id = own_id;
    ELSIF own_id = credit_id THEN
        UPDATE billing_account
        SET posted_nanos = posted_nanos + p_amount,
            floor_nanos = LEAST(0, GREATEST(floor_nanos, posted_nanos + p_amount - held_nanos))
        WHERE id = own_id;
    END IF;
    RETURN true;
END $$;

-- Where in the journal a moment lies: the number from which rows were made at that time or later, found by halving. Rows
-- made at nearly the same time may stand in either order, so whoever asks allows for some minutes.
CREATE FUNCTION ledger_place(p_moment timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    low bigint := 0;
    high bigint;
    middle bigint;
    nearest record;
BEGIN
    SELECT coalesce(max(id), 0) + 1 INTO high FROM billing_transfer;
    WHILE low < high LOOP
        middle := (low + high) / 2;
        SELECT id, created_at INTO nearest FROM billing_transfer WHERE id >= middle ORDER BY id LIMIT 1;
        IF NOT FOUND OR nearest.created_at >= p_moment THEN
            high := middle;
        ELSE
            low := nearest.id + 1;
        END IF;
    END LOOP;
    RETURN low;
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

-- Refuse an organization's new holds, or take them again. What is held already goes on and settles.
CREATE FUNCTION ledger_freeze(p_organization bigint, p_frozen boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM ledger_account('promo', p_organization, ''), ledger_account('wallet', p_organization, '');
    -- In the order in which holds lock them.
    PERFORM 1 FROM billing_account
    WHERE organization_id = p_organization AND kind IN ('promo', 'wallet') ORDER BY kind FOR NO KEY UPDATE;
    UPDATE billing_account SET frozen = p_frozen
    WHERE organization_id = p_organization AND kind IN ('promo', 'wallet') AND frozen IS DISTINCT FROM p_frozen;
END $$;

-- Freeze both balances for good, unless something still runs: then nothing changes. Returns how many holds are open.
CREATE FUNCTION ledger_end_holds(p_organization bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    running bigint;
BEGIN
    PERFORM ledger_account('promo', p_organization, ''), ledger_account('wallet', p_organization, '');
    PERFORM 1 FROM billing_account WHERE organization_id = p_organization ORDER BY kind FOR NO KEY UPDATE;
    SELECT count(*) INTO running FROM billing_hold WHERE organization_id = p_organization AND state = 'held';
    IF running = 0 THEN
        UPDATE billing_account SET frozen = true WHERE organization_id = p_organization;
    END IF;
    RETURN running;
END $$;

-- Count `p_amount` under a name today, unless that would be more than `p_cap`: then nothing is counted.
CREATE FUNCTION count_daily(p_name text, p_amount bigint, p_cap bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF p_amount > p_cap THEN
        RETURN false;
    END IF;
    INSERT INTO billing_dailycount AS c (name, day, used) VALUES (p_name, (now() AT TIME ZONE 'UTC')::date, p_amount)
    ON CONFLICT (day, name) DO UPDATE SET used = c.used + p_amount WHERE c.used + p_amount <= p_cap;
    RETURN FOUND;
END $$;
