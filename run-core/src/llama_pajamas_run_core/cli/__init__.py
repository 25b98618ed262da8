"""The command line: ``llama-pajamas``."""

import sys


def main() -> None:
    """Run the command line; without its packages, say how to install them."""
    try:
        from llama_pajamas_run_core.cli.app import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("llama_pajamas"):
            raise
        sys.exit(f"The command line needs {error.name}: pip install 'llama-pajamas-run-core[cli]'")
    run(sys.argv[1:])
