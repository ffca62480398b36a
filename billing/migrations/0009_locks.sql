-- Take the locks of several organizations' balances, in the one order in which everybody takes them. To be called first in
-- a transaction of several holds, settlements and voids: each of them by itself begins with these locks of its own
-- organization, and two such transactions would wait for each other in a circle.
CREATE FUNCTION ledger_lock(p_organizations bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM 1 FROM billing_account
    WHERE organization_id = ANY (p_organizations) AND kind IN ('promo', 'wallet') AND provider = ''
    ORDER BY organization_id, kind FOR NO KEY UPDATE;
END $$;
