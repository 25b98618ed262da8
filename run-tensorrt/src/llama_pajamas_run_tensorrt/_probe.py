"""Loads an engine and ends: ``python -m llama_pajamas_run_tensorrt._probe FILE DEVICE``, run by ``_session.probe``."""

import sys

from llama_pajamas_run_core.errors import PajamasError


def main() -> int:
    """0 where the engine loads; else 1, and the reason as the last line of stderr."""
    from llama_pajamas_run_tensorrt import _sdk
    from llama_pajamas_run_tensorrt._device import find_device
    from llama_pajamas_run_tensorrt.engine_file import read_engine

    path, device = sys.argv[1:3]
    engine = read_engine(path)
    log = _sdk.make_log()
    try:
        with find_device(device).current():
            runtime = _sdk.tensorrt.Runtime(log)
            loaded = runtime.deserialize_cuda_engine(engine.plan())
            if loaded is None:
                sys.stderr.write(log.told())
                return 1
            del loaded, runtime
    except PajamasError as error:
        sys.stderr.write(error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
