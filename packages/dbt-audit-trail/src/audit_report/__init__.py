"""The audit report: one self-contained HTML file made from the audit views."""
