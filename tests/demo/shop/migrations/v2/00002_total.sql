-- +goose Up
-- Long work first, the lock on the table last and short: a migration that is to run beside the old release must not
-- keep that from its tables.
SELECT pg_sleep(10);
ALTER TABLE orders ADD COLUMN total integer NOT NULL DEFAULT 0;
