"""The Redshift stand-in: PostgreSQL behind a gateway that speaks Redshift's wire protocol and dialect."""
