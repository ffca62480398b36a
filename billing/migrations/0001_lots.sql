-- Promotional credit comes in lots that may expire. The hot path knows nothing of them: a hold reserves and a charge
-- takes from promo as a whole, and what was spent is attributed to lots, earliest expiry first, before the next lot is
-- added or one expires. Between two such moments the set of lots does not change, so it comes to what attributing each
-- charge at once would have given. Whoever changes lots holds the lock of the promo account.

-- Take `p_amount` from an organization's lots, the earliest to expire first.
CREATE FUNCTION ledger_lots_take(p_organization bigint, p_amount bigint, p_expired boolean) RETURNS void
LANGUAGE sql AS $$
    UPDATE billing_grant
    SET spent_nanos = spent_nanos + CASE WHEN p_expired THEN 0 ELSE taken.amount END,
        expired_nanos = expired_nanos + CASE WHEN p_expired THEN taken.amount ELSE 0 END
    FROM (
        SELECT id, LEAST(rest, p_amount - earlier) AS amount FROM (
            SELECT id, rest, (sum(rest) OVER (ORDER BY expires_at NULLS LAST, id))::bigint - rest AS earlier FROM (
                SELECT id, expires_at, amount_nanos - spent_nanos - expired_nanos AS rest FROM billing_grant
                WHERE organization_id = p_organization AND amount_nanos > spent_nanos + expired_nanos
            ) lots
        ) ordered WHERE earlier < p_amount
    ) taken WHERE billing_grant.id = taken.id
$$;

-- Attribute what was spent since the last time. The promo account is locked and its balance is as of now.
CREATE FUNCTION ledger_lots_attribute(p_organization bigint) RETURNS void LANGUAGE sql AS $$
    SELECT ledger_lots_take(
        p_organization,
        (SELECT sum(amount_nanos - spent_nanos - expired_nanos)::bigint FROM billing_grant
         WHERE organization_id = p_organization AND amount_nanos > spent_nanos + expired_nanos)
        - (SELECT posted_nanos FROM billing_account
           WHERE organization_id = p_organization AND kind = 'promo' AND provider = ''),
        false
    )
$$;

-- Whoever books it, what comes to promo is a lot and what expires leaves one. The journal's row is written before the
-- balance changes, so the balance still says what was there before this movement.
CREATE FUNCTION ledger_keep_lots() RETURNS trigger LANGUAGE plpgsql AS $$
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

-- As ledger_grant, with a moment at which what is left of it expires; null is never.
CREATE FUNCTION ledger_grant_until(
    p_organization bigint, p_amount bigint, p_reference uuid, p_note text, p_expires_at timestamptz
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT ledger_grant(p_organization, p_amount, p_reference, p_note) THEN
        RETURN false;
    END IF;
    IF p_expires_at IS NOT NULL THEN
        UPDATE billing_grant SET expires_at = p_expires_at
        FROM billing_transfer t
        WHERE t.id = transfer_id AND t.reference_id = p_reference AND t.reference_type = 'grant' AND t.kind = 'grant';
    END IF;
    RETURN true;
END $$;

-- Book the expiry of what is left of lots whose moment has come; with `p_everything`, of every lot. What open holds
-- reserve counts as the part that expires first and is never touched: it expires when they have given it back. Returns
-- how much expired.
CREATE FUNCTION ledger_expire(p_organization bigint, p_everything boolean) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    own billing_account;
    amount bigint;
BEGIN
    SELECT * INTO own FROM billing_account
    WHERE organization_id = p_organization AND kind = 'promo' AND provider = '' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    PERFORM ledger_lots_attribute(p_organization);
    SELECT COALESCE(sum(amount_nanos - spent_nanos - expired_nanos), 0)::bigint - own.held_nanos INTO amount
    FROM billing_grant
    WHERE organization_id = p_organization AND amount_nanos > spent_nanos + expired_nanos
      AND (p_everything OR expires_at <= now());
    IF amount <= 0 THEN
        RETURN 0;
    END IF;
    PERFORM ledger_post(
        'grant_expired', p_organization, '', amount, 'expiry', gen_random_uuid(), 'promotional credit that was not used'
    );
    RETURN amount;
END $$;

-- Bring promo up to `p_cap`, once for a reference: yesterday's rest expires first, what cannot expire yet counts.
-- Returns how much was granted.
CREATE FUNCTION ledger_fund(
    p_organization bigint, p_cap bigint, p_reference uuid, p_note text, p_expires_at timestamptz
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    promo_id bigint := ledger_account('promo', p_organization, '');
    amount bigint;
BEGIN
    PERFORM 1 FROM billing_account WHERE id = promo_id FOR NO KEY UPDATE;
    PERFORM ledger_expire(p_organization, false);
    SELECT p_cap - posted_nanos INTO amount FROM billing_account WHERE id = promo_id;
    IF amount > 0 AND ledger_grant_until(p_organization, amount, p_reference, p_note, p_expires_at) THEN
        RETURN amount;
    END IF;
    RETURN 0;
END $$;

REVOKE EXECUTE ON FUNCTION ledger_lots_take(bigint, bigint, boolean), ledger_lots_attribute(bigint) FROM PUBLIC;
