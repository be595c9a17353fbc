"""Creates one Airflow DAG for each entry of pipelines.yml. pipelines_errors.py reports entries with problems."""

from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator

from mwaa_pipelines.pipeline_dag import requested_pipelines

for pipeline in requested_pipelines(Path(__file__).with_name("pipelines.yml")):
    with pipeline.dag():
        load_sources = pipeline.load_sources()
        audit_dbt_task = pipeline.audit_dbt_task()
        transform_data = pipeline.transform_data()
        dbt_check = pipeline.dbt_check()
        # A leaf of the DAG: it makes a run with a failure end as failed, whether or not the alert was sent.
        pipeline_succeeded = EmptyOperator(task_id="pipeline_succeeded", outlets=[pipeline.asset])
        sns_notification_for_failure = pipeline.sns_notification_for_failure()

        # Add your own tasks to this chain, for example: EmptyOperator(task_id="wait_for_shop") >> load_sources
        load_sources >> audit_dbt_task >> transform_data >> dbt_check
        dbt_check >> [pipeline_succeeded, sns_notification_for_failure]
