"""``python -m llama_pajamas_run_core.cli``."""

from llama_pajamas_run_core.cli import main

main()
