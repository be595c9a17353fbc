"""The error of a pipeline. It has a module without imports, because dbt's environment lacks those of `settings`."""


class PipelineError(Exception):
    """A pipeline cannot be created or run. The message names the file or setting to change."""
