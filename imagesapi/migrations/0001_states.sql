-- What the tables refuse by themselves, and what they begin with.

INSERT INTO imagesapi_catalogversion (number) VALUES (1);

-- The first 48 bits of a version 7 id are the milliseconds at which its request came in.
CREATE FUNCTION imagesapi_hour_of(uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT to_timestamp(('x' || translate(left($1::text, 13), '-', ''))::bit(48)::bigint / 3600000 * 3600)
$$;

-- Every request writes a generation and an attempt and then ends both, and the server reads each CHECK and each trigger's
-- WHEN from its stored form anew in every statement. A type's conditions it reads once for each connection: so which
-- states there are is their type, and what goes with a state is said in few words.

CREATE DOMAIN generation_status AS varchar(16)
CHECK (VALUE IN ('pending', 'processing', 'completed', 'upstream_failure', 'rejected', 'cancelled'));
CREATE DOMAIN attempt_status AS varchar(16)
CHECK (VALUE IN ('sent', 'succeeded', 'refused', 'failed', 'unknown', 'not_billed', 'absorbed'));

-- Open means held under a lease, without an end and a cost; only what was completed cost something. (A condition that
-- comes to NULL holds: cost_nanos >= 0 says nothing of no cost.)
ALTER TABLE imagesapi_generation
    ALTER COLUMN status TYPE generation_status,
    ADD CONSTRAINT generation_ends_whole CHECK (
        (finished_at IS NULL) = (status = 'processing' OR status = 'pending')
        AND (finished_at IS NULL) = (lease_expires_at IS NOT NULL)
        AND (cost_nanos IS NULL) = (status <> 'completed')
        AND cost_nanos >= 0
    );
ALTER TABLE imagesapi_attempt
    ALTER COLUMN status TYPE attempt_status,
    ADD CONSTRAINT attempt_ends_whole CHECK ((finished_at IS NULL) = (status = 'sent'));

-- What is finished stays finished.
CREATE FUNCTION imagesapi_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- What nobody knew may be found out.
    IF TG_TABLE_NAME = 'imagesapi_attempt' AND OLD.status = 'unknown' AND NEW.status IN ('not_billed', 'absorbed') THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% of % is refused in state %', TG_OP, TG_TABLE_NAME, OLD.status USING ERRCODE = 'PX002';
END $$;

CREATE TRIGGER generation_finishes_once BEFORE UPDATE OF status ON imagesapi_generation
FOR EACH ROW WHEN (OLD.finished_at IS NOT NULL) EXECUTE FUNCTION imagesapi_refuse_change();
CREATE TRIGGER attempt_finishes_once BEFORE UPDATE OF status ON imagesapi_attempt
FOR EACH ROW WHEN (OLD.finished_at IS NOT NULL) EXECUTE FUNCTION imagesapi_refuse_change();

CREATE FUNCTION imagesapi_refuse_price_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a price is never changed: add a line with a later valid_from' USING ERRCODE = 'PX002';
END $$;

CREATE TRIGGER price_line_is_immutable BEFORE UPDATE ON imagesapi_priceline
FOR EACH ROW EXECUTE FUNCTION imagesapi_refuse_price_change();

-- Bills, what was booked for them and closed statements are history like the journal: nobody edits them, owner or not.

CREATE TRIGGER bill_line_is_immutable BEFORE UPDATE OR DELETE ON imagesapi_billline
FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER bill_line_is_never_truncated BEFORE TRUNCATE ON imagesapi_billline
FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();

CREATE TRIGGER bill_adjustment_is_immutable BEFORE UPDATE OR DELETE ON imagesapi_billadjustment
FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER bill_adjustment_is_never_truncated BEFORE TRUNCATE ON imagesapi_billadjustment
FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();

CREATE TRIGGER statement_is_immutable BEFORE UPDATE OR DELETE ON imagesapi_statement
FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER statement_is_never_truncated BEFORE TRUNCATE ON imagesapi_statement
FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
