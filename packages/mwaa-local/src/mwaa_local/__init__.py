"""The laptop stand-ins: a Redshift-compatible warehouse, AWS and MWAA. Never deployed."""
