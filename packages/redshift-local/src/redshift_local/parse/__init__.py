"""Redshift's syntax: the sqlglot dialect, tokens, identifiers and data types."""
