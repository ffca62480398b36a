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

-- Each movement keeps what its wallet or promo had after it: written under that balance's lock, which is taken before the
-- row gets its number, so that an account's rows follow each other and a page of them needs no other row.

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
    promo_left bigint;
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
        RETURNING posted_nanos INTO promo_left;
    END IF;
    IF hold.wallet_nanos > 0 THEN
        UPDATE billing_account SET posted_nanos = posted_nanos - from_wallet, held_nanos = held_nanos - hold.wallet_nanos
        WHERE organization_id = hold.organization_id AND kind = 'wallet' AND provider = ''
        RETURNING posted_nanos INTO wallet_left;
    END IF;
    IF hold.charged_nanos > 0 THEN
        payee := CASE WHEN p_simulated THEN ledger_account('simulated', NULL, '')
                      ELSE ledger_account('provider_payable', NULL, p_provider) END;
        IF from_promo > 0 THEN
            INSERT INTO billing_transfer
                (debit_account_id, credit_account_id, amount_nanos, kind, reference_type, reference_id, balance_nanos)
            VALUES (ledger_account('promo', hold.organization_id, ''), payee, from_promo, 'charge_promo',
                    'generation', p_id, promo_left);
        END IF;
        IF from_wallet > 0 THEN
            INSERT INTO billing_transfer
                (debit_account_id, credit_account_id, amount_nanos, kind, reference_type, reference_id, balance_nanos)
            VALUES (ledger_account('wallet', hold.organization_id, ''), payee, from_wallet, 'charge',
                    'generation', p_id, wallet_left);
        END IF;
    END IF;
    PERFORM ledger_absorb(p_id, result.absorbed_nanos, p_provider);
    PERFORM ledger_release_limits(p_id, hold.charged_nanos);
    RETURN result;
END $$;

CREATE OR REPLACE FUNCTION ledger_grant(p_organization bigint, p_amount bigint, p_reference uuid, p_note text) RETURNS boolean
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
