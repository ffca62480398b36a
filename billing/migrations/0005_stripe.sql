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
