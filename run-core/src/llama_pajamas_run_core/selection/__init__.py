"""Which runtime serves a task on a machine, and why."""
