"""Fixtures of the audit trail's tests."""

from audit_database import built, database, dbt

__all__ = ["built", "database", "dbt"]
