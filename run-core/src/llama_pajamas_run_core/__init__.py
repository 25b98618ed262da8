"""The core of llama-pajamas: types, abstract backends, hardware detection, runtime selection and the server.

Nothing is imported here, so that a device with one runtime pays for that runtime alone: import the room you need,
for example ``llama_pajamas_run_core.backends`` or ``llama_pajamas_run_core.server``.
"""

__version__ = "0.1.0"
