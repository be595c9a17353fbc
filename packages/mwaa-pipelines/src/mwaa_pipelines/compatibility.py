"""Names that have moved between the versions of Airflow that MWAA offers: 3.0.6, 3.2.1 and 3.3.1."""

try:
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSkipException,
        AirflowTaskTimeout,
    )
    from airflow.sdk.log import mask_secret
except ImportError:
    # Airflow 3.0
    from airflow.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSkipException,
        AirflowTaskTimeout,
    )
    from airflow.sdk.execution_time.secrets_masker import mask_secret

try:
    from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference
except ImportError:
    # Airflow 3.0 has no deadlines.
    AsyncCallback = DeadlineAlert = DeadlineReference = None

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowRescheduleException",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "AsyncCallback",
    "DeadlineAlert",
    "DeadlineReference",
    "mask_secret",
]
