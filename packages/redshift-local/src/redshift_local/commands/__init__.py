"""Statements other than queries: DDL, users, privileges, SHOW, session commands."""
