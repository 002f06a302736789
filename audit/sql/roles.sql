-- Roles of the database (PostgreSQL), for those who run the portal's processes under users of
-- their own. `manage.py database_roles` applies this as the owner of the tables, after each
-- migration; it can be repeated. Members are granted by the operator:
--     GRANT chancery_app TO the_web_user;  GRANT chancery_sealer TO the_sealer_user;
--
-- chancery_app       web, workers, beat: everything but the sealed log; of events INSERT alone
-- chancery_sealer    the sealer: what the app may, and writing the sealed log
-- chancery_auditor   reading the log, and nothing else of the portal
--
-- No role may update or delete events, empty tables, or change triggers. Values can only be lost,
-- which a trigger watches; the roles do not distinguish erasure, since people approve it in the web.

DO $$
DECLARE
  role text;
BEGIN
  FOREACH role IN ARRAY ARRAY['chancery_app', 'chancery_sealer', 'chancery_auditor'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', role);
    END IF;
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA public FROM %I', role);
    EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', role);
  END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO chancery_app, chancery_sealer;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO chancery_app, chancery_sealer;

-- The log: written once.
REVOKE UPDATE, DELETE ON audit_event, auditlog_logentry FROM chancery_app, chancery_sealer;
REVOKE UPDATE, DELETE ON audit_eventpayload FROM chancery_app, chancery_sealer;
GRANT UPDATE (disclosures, erased, actor_label, subject_label) ON audit_eventpayload TO chancery_app;
GRANT UPDATE (object_repr, changes, changes_text, serialized_data, additional_data, actor_email)
  ON auditlog_logentry TO chancery_app;

-- The sealed log: the sealer's. Cosignatures of witnesses are asked for by workers.
REVOKE INSERT, UPDATE, DELETE ON audit_leaf, audit_tile, audit_checkpoint, audit_logkey,
  audit_quarantine, audit_sealermark FROM chancery_app;
REVOKE UPDATE, DELETE ON audit_leaf, audit_tile, audit_checkpoint, audit_logkey, audit_quarantine,
  audit_cosignature FROM chancery_app, chancery_sealer;

GRANT SELECT ON audit_event, audit_eventpayload, audit_leaf, audit_tile, audit_checkpoint,
  audit_cosignature, audit_logkey, audit_quarantine TO chancery_auditor;
