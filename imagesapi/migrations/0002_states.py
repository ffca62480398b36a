"""The catalogue's version row, and triggers that keep a finished state finished."""

from django.db import migrations

STATES = """
INSERT INTO imagesapi_catalogversion (number) VALUES (1);

CREATE FUNCTION imagesapi_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused in state %', TG_OP, TG_TABLE_NAME, OLD.status USING ERRCODE = 'PX002';
END $$;

CREATE TRIGGER generation_finishes_once BEFORE UPDATE OF status ON imagesapi_generation
FOR EACH ROW WHEN (OLD.status NOT IN ('pending', 'processing')) EXECUTE FUNCTION imagesapi_refuse_change();

CREATE TRIGGER attempt_finishes_once BEFORE UPDATE OF status ON imagesapi_attempt
FOR EACH ROW WHEN (
    NOT (OLD.status = 'sent' OR OLD.status = 'unknown' AND NEW.status IN ('not_billed', 'absorbed'))
) EXECUTE FUNCTION imagesapi_refuse_change();

CREATE FUNCTION imagesapi_refuse_price_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a price is never changed: add a line with a later valid_from' USING ERRCODE = 'PX002';
END $$;

CREATE TRIGGER price_line_is_immutable BEFORE UPDATE ON imagesapi_priceline
FOR EACH ROW EXECUTE FUNCTION imagesapi_refuse_price_change();
"""


class Migration(migrations.Migration):
    dependencies = (("imagesapi", "0001_initial"),)
    operations = (migrations.RunSQL(STATES, migrations.RunSQL.noop),)
