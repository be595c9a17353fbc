"""Translation of Redshift's SQL into PostgreSQL's."""
