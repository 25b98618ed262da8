"""Whether all runtimes give the same answers: the starter models in each of them, beside a reference."""
