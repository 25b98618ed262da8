"""The server of run-core with one model, as a process of its own.

    python benchmarks/common/our_server.py '{"model": "model.gguf", "options": {"n_ctx": 8192, "n_lanes": 16}}'

Prints its address once it listens. ``options`` are load options of the backend; ``runtime`` is "gguf" unless given.
"""

import json
import sys

from llama_pajamas_run_core.artifacts.catalogue import Catalogue
from llama_pajamas_run_core.hardware.detect import detect
from llama_pajamas_run_core.pool import ModelPool, SelectionPlanner
from llama_pajamas_run_core.runtimes.discovery import installed
from llama_pajamas_run_core.server.run import serve
from llama_pajamas_run_core.server.settings import Settings

MODEL = "model"


def main() -> None:
    """Serve until told to stop."""
    given = json.loads(sys.argv[1])
    catalogue = Catalogue(packages=False)
    catalogue.add_path(given["model"], MODEL)
    prefer = (given.get("runtime", "gguf"),)
    planner = SelectionPlanner(detect(), installed(), prefer=prefer, options={MODEL: given["options"]})
    pool = ModelPool(catalogue, planner, keep_alive=None)
    serve(pool, Settings(port=0, preload=(MODEL,)), ready=lambda url: print(url, flush=True))


if __name__ == "__main__":
    main()
