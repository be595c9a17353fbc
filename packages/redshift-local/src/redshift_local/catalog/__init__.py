"""Redshift's catalog: system tables, storage attributes, late-binding views."""
