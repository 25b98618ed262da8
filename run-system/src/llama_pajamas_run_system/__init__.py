"""The voice that is always there: eSpeak NG on Linux and Windows, the system's own voices on a Mac.

The names below import their backend, and with it the SDK, when they are first used.
"""

from typing import TYPE_CHECKING

from llama_pajamas_run_core.runtimes.packages import lazy_backends
from llama_pajamas_run_system.runtime import RUNTIME

if TYPE_CHECKING:
    from llama_pajamas_run_system.tts import SystemTTSBackend as SystemTTSBackend

__all__ = ["RUNTIME", "SystemTTSBackend"]

__getattr__ = lazy_backends(__name__, RUNTIME)
