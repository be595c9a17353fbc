"""The parts of the DAGs: settings, releases, credentials, dbt's results, failure report and alerts."""
