"""The task that measures the freshness of a pipeline's sources before its models are built."""

import logging
from typing import Any

from cosmos.operators.local import DbtSourceLocalOperator

from mwaa_pipelines.compatibility import AirflowException
from mwaa_pipelines.freshness import push_freshness
from mwaa_pipelines.parameters import prepare
from mwaa_pipelines.unwritten_rows import store_unwritten_results

log = logging.getLogger(__name__)


class FreshnessOperator(DbtSourceLocalOperator):
    """Runs `dbt source freshness`, whose results are audit rows. By default, a stale source is only a warning."""

    def __init__(self, *, is_required: bool, **arguments: Any) -> None:
        """Create the task.

        Args:
            is_required: whether a source that is older than its error_after, or cannot be measured, ends the run.
            **arguments: of Cosmos's operator.
        """
        super().__init__(**arguments, callback=[store_unwritten_results, push_freshness])
        self.is_required = is_required
        self.has_measured = False

    def execute(self, context: Any, **kwargs: Any) -> None:
        """Run dbt.

        Raises:
            AirflowException: dbt failed before it measured the sources; or one of them is too old or cannot be
                measured, and it is required.
            AirflowFailException: the run's parameters contradict each other, or the pipeline's selector.
        """
        prepare(context)
        try:
            super().execute(context, **kwargs)
        except AirflowException:
            if self.is_required or not self.has_measured:
                raise
            log.warning("A source is stale or cannot be measured (see above). The models are built all the same.")
