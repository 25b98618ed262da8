"""Several models at one task. Pipelines see the abstract backends alone, so any runtimes can meet in one."""
