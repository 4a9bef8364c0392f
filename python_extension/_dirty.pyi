"""The compiled part of the packages dirty and dirty_worker. Not for direct use."""

__version__: str

def run_worker(apps: object, cancelled: type[BaseException]) -> int:
    """Serves dirtyd until it ends this worker; returns the exit code.

    Args:
        apps: A `dirty_worker._apps.Apps`.
        cancelled: What to raise in calls that are cancelled.

    Raises:
        RuntimeError: dirtyd's environment is missing.
    """
