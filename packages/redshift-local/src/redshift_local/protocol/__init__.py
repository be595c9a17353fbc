"""Redshift's wire protocol: messages, login, bound values, result rows."""
