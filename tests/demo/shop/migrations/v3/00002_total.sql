-- +goose Up
-- A table of some size: the old release serves on while this takes its time.
ALTER TABLE orders ADD COLUMN total integer NOT NULL DEFAULT 0;
SELECT pg_sleep(10);
