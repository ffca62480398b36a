-- Every request writes a generation and an attempt and then ends both, and the server reads each CHECK and each trigger's
-- WHEN from its stored form anew in every statement. A type's conditions it reads once for each connection: so which
-- states there are is their type, and what goes with a state is said in few words. Nothing that was refused is taken now.

CREATE DOMAIN generation_status AS varchar(16)
CHECK (VALUE IN ('pending', 'processing', 'completed', 'upstream_failure', 'rejected', 'cancelled'));
CREATE DOMAIN attempt_status AS varchar(16)
CHECK (VALUE IN ('sent', 'succeeded', 'refused', 'failed', 'unknown', 'not_billed', 'absorbed'));

DROP TRIGGER generation_finishes_once ON imagesapi_generation;
DROP TRIGGER attempt_finishes_once ON imagesapi_attempt;

-- Open means held under a lease, without an end and a cost; only what was completed cost something. (A condition that
-- comes to NULL holds: cost_nanos >= 0 says nothing of no cost.)
ALTER TABLE imagesapi_generation
    DROP CONSTRAINT generation_status_known,
    DROP CONSTRAINT generation_open_has_lease,
    DROP CONSTRAINT generation_cost_when_completed,
    ALTER COLUMN status TYPE generation_status,
    ADD CONSTRAINT generation_ends_whole CHECK (
        (finished_at IS NULL) = (status = 'processing' OR status = 'pending')
        AND (finished_at IS NULL) = (lease_expires_at IS NOT NULL)
        AND (cost_nanos IS NULL) = (status <> 'completed')
        AND cost_nanos >= 0
    );
ALTER TABLE imagesapi_attempt
    DROP CONSTRAINT attempt_status_known,
    DROP CONSTRAINT attempt_finished_when_not_sent,
    ALTER COLUMN status TYPE attempt_status,
    ADD CONSTRAINT attempt_ends_whole CHECK ((finished_at IS NULL) = (status = 'sent'));

CREATE OR REPLACE FUNCTION imagesapi_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
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
