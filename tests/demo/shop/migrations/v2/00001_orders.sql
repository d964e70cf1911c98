-- +goose Up
CREATE TABLE orders (id serial PRIMARY KEY, customer text NOT NULL);
INSERT INTO orders (customer) VALUES ('Ada'), ('Grace'), ('Edsger');
