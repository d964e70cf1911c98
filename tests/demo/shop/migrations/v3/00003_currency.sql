-- +goose Up
-- A mistake, as they happen: the table is called orders.
ALTER TABLE order_lines ADD COLUMN currency text NOT NULL DEFAULT 'EUR';
