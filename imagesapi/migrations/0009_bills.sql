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
