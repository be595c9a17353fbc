-- An audit_table with one run, as dbt created it when the model was in the project and not in the package.
create table audit_table
    diststyle even
    compound sortkey(model_execution_date)
as (
select
    cast(null as varchar(1024)) as load_id,
    cast(null as varchar(64)) as invocation_id,
    cast(null as varchar(128)) as database_name,
    cast(null as varchar(128)) as schema_name,
    cast(null as varchar(512)) as name,
    cast(null as varchar(32)) as resource_type,
    cast(null as varchar(32)) as status,
    cast(null as double precision) as execution_time,
    cast(null as bigint) as rows_affected,
    cast(null as date) as model_execution_date,
    cast(null as varchar(1024)) as unique_id,
    cast(null as varchar(64)) as materialization,
    cast(null as varchar(512)) as relation_name,
    cast(null as varchar(4096)) as message,
    cast(null as bigint) as failures,
    cast(null as varchar(16)) as severity,
    cast(null as timestamp) as started_at,
    cast(null as timestamp) as completed_at,
    cast(null as double precision) as compile_seconds,
    cast(null as double precision) as execute_seconds,
    cast(null as varchar(64)) as thread_id,
    cast(null as varchar(32)) as dbt_command,
    cast(null as boolean) as full_refresh,
    cast(null as varchar(64)) as target_name,
    cast(null as varchar(32)) as dbt_version,
    cast(null as varchar(128)) as query_id,
    cast(null as varchar(128)) as release_id,
    cast(null as varchar(64)) as code_version,
    cast(null as varchar(128)) as node_checksum,
    cast(null as varchar(256)) as owner,
    cast(null as varchar(2048)) as tags,
    cast(null as varchar(4096)) as depends_on,
    cast(null as timestamp) as source_max_loaded_at,
    cast(null as varchar(256)) as airflow_dag_id,
    cast(null as varchar(256)) as airflow_run_id,
    cast(null as varchar(256)) as airflow_task_id,
    cast(null as integer) as airflow_try_number,
    cast(null as timestamp) as airflow_logical_date,
    cast(null as varchar(2048)) as airflow_log_url
where false
);

insert into audit_table (
    load_id, invocation_id, database_name, schema_name, name, resource_type, status, execution_time, rows_affected, model_execution_date, unique_id, materialization, relation_name, message, failures, severity, started_at, completed_at, compile_seconds, execute_seconds, thread_id, dbt_command, full_refresh, target_name, dbt_version, query_id, release_id, code_version, node_checksum, owner, tags, depends_on, source_max_loaded_at, airflow_dag_id, airflow_run_id, airflow_task_id, airflow_try_number, airflow_logical_date, airflow_log_url
)
values
('0b5c6f1e-6d5b-4a0e-9a40-6a3f1f4a9d11.model.flights.audit_table', '0b5c6f1e-6d5b-4a0e-9a40-6a3f1f4a9d11', 'dev', 'analytics', 'audit_table', 'model', 'success', 0.51, null, '2026-11-20', 'model.flights.audit_table', 'incremental', '"dev"."analytics"."audit_table"', 'SUCCESS', null, null, '2026-11-20 06:00:01.000001', '2026-11-20 06:00:01.510001', 0.01, 0.5, 'Thread-1 (worker)', 'build', false, 'prod', '1.11.16', null, '20261119T170301Z-8e93fdd', '8e93fdd', '6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c6f1c', 'data-platform', '["audit"]', '[]', null, 'flights_pipeline', 'scheduled__2026-11-20T06:00:00+00:00', 'audit_dbt_task.audit_table_model_build', 1, '2026-11-20 06:00:00', 'https://airflow.example.com/log?try=1'),
('0b5c6f1e-6d5b-4a0e-9a40-6a3f1f4a9d11.model.flights.stg_airlines', '0b5c6f1e-6d5b-4a0e-9a40-6a3f1f4a9d11', 'dev', 'analytics', 'stg_airlines', 'model', 'success', 0.2, null, '2026-11-20', 'model.flights.stg_airlines', 'view', '"dev"."analytics"."stg_airlines"', 'SUCCESS', null, null, '2026-11-20 06:00:02.0', '2026-11-20 06:00:02.2', 0.02, 0.18, 'Thread-1 (worker)', 'build', false, 'prod', '1.11.16', null, '20261119T170301Z-8e93fdd', '8e93fdd', 'aa01aa01aa01aa01aa01aa01aa01aa01aa01aa01aa01aa01aa01aa01aa01aa01', 'analytics-engineering', '["staging"]', '["source.flights.raw.airlines"]', null, 'flights_pipeline', 'scheduled__2026-11-20T06:00:00+00:00', 'transform_data.dbt_producer_watcher', 1, '2026-11-20 06:00:00', 'https://airflow.example.com/log?try=1'),
('0b5c6f1e-6d5b-4a0e-9a40-6a3f1f4a9d11.model.flights.carriers', '0b5c6f1e-6d5b-4a0e-9a40-6a3f1f4a9d11', 'dev', 'analytics', 'carriers', 'model', 'success', 1.25, 16, '2026-11-20', 'model.flights.carriers', 'table', '"dev"."analytics"."carriers"', 'SUCCESS', null, null, '2026-11-20 06:00:03.0', '2026-11-20 06:00:04.25', 0.05, 1.2, 'Thread-1 (worker)', 'build', false, 'prod', '1.11.16', null, '20261119T170301Z-8e93fdd', '8e93fdd', 'bb02bb02bb02bb02bb02bb02bb02bb02bb02bb02bb02bb02bb02bb02bb02bb02', 'analytics-engineering', '["mart"]', '["model.flights.stg_airlines"]', null, 'flights_pipeline', 'scheduled__2026-11-20T06:00:00+00:00', 'transform_data.dbt_producer_watcher', 1, '2026-11-20 06:00:00', 'https://airflow.example.com/log?try=1'),
('0b5c6f1e-6d5b-4a0e-9a40-6a3f1f4a9d11.test.flights.unique_carriers_carrier_code.0123456789', '0b5c6f1e-6d5b-4a0e-9a40-6a3f1f4a9d11', 'dev', 'analytics_dbt_test__audit', 'unique_carriers_carrier_code', 'test', 'fail', 0.3, null, '2026-11-20', 'test.flights.unique_carriers_carrier_code.0123456789', 'test', null, 'Got 2 results, configured to fail if != 0', 2, 'error', '2026-11-20 06:00:05.0', '2026-11-20 06:00:05.3', 0.01, 0.29, 'Thread-1 (worker)', 'build', false, 'prod', '1.11.16', null, '20261119T170301Z-8e93fdd', '8e93fdd', null, null, null, '["model.flights.carriers"]', null, 'flights_pipeline', 'scheduled__2026-11-20T06:00:00+00:00', 'transform_data.dbt_producer_watcher', 1, '2026-11-20 06:00:00', 'https://airflow.example.com/log?try=1'),
('0b5c6f1e-6d5b-4a0e-9a40-6a3f1f4a9d11.model.flights.departures', '0b5c6f1e-6d5b-4a0e-9a40-6a3f1f4a9d11', 'dev', 'analytics', 'departures', 'model', 'error', 0.4, null, '2026-11-20', 'model.flights.departures', 'table', '"dev"."analytics"."departures"', 'Database Error in model departures
  it''s \\ a "quoted"	text 🛩 é', null, null, '2026-11-20 06:00:05.0', '2026-11-20 06:00:05.4', 0.1, 0.3, 'Thread-1 (worker)', 'build', false, 'prod', '1.11.16', null, '20261119T170301Z-8e93fdd', '8e93fdd', null, 'it''s theirs', '["mart"]', null, null, 'flights_pipeline', 'scheduled__2026-11-20T06:00:00+00:00', 'transform_data.dbt_producer_watcher', 1, '2026-11-20 06:00:00', 'https://airflow.example.com/log?try=1'),
('0b5c6f1e-6d5b-4a0e-9a40-6a3f1f4a9d11.model.flights.audit_runs', '0b5c6f1e-6d5b-4a0e-9a40-6a3f1f4a9d11', 'dev', 'analytics', 'audit_runs', 'model', 'skipped', 0.0, null, '2026-11-20', 'model.flights.audit_runs', 'view', '"dev"."analytics"."audit_runs"', null, null, null, null, null, null, null, 'Thread-1 (worker)', 'build', false, 'prod', '1.11.16', null, '20261119T170301Z-8e93fdd', '8e93fdd', null, null, '["audit_view"]', null, null, 'flights_pipeline', 'scheduled__2026-11-20T06:00:00+00:00', 'transform_data.dbt_producer_watcher', 1, '2026-11-20 06:00:00', 'https://airflow.example.com/log?try=1');
