-- +goose Up
-- Long work first, the lock on the table last and short: a migration that is to run beside the old release must not
-- keep that from its tables.
SELECT pg_sleep(10);
-- Longer for as long as somebody has this lock: a test that says when the migration ends.
SELECT pg_advisory_xact_lock(2);
ALTER TABLE orders ADD COLUMN total integer NOT NULL DEFAULT 0;
