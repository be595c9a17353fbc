"""The audit report: one self-contained HTML file made from the audit views."""

from pathlib import Path

# The dbt package `audit_trail`, whose table and views the report reads.
DBT_PACKAGE = Path(__file__).resolve().parent.with_name("audit_trail")
