"""How long tactics took, kept from build to build: without that TensorRT measures each of them anew."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt._device import GPU
from llama_pajamas_run_tensorrt.engine_file import engine_cache
from llama_pajamas_run_tensorrt.files import alone, write_whole

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timings:
    """The timings of one kind of GPU and version of TensorRT, in the user's cache.

    Attributes:
        path: the file.
    """

    path: Path

    @classmethod
    def of(cls, device: GPU) -> "Timings":
        """Those of a GPU, with the TensorRT that is installed."""
        name = "".join(letter if letter.isalnum() else "-" for letter in device.name)
        capability = f"{device.capability[0]}.{device.capability[1]}"
        return cls(engine_cache() / f"timing-{_sdk.version()}-{capability}-{name}.cache")

    def give(self, config: Any) -> None:
        """Let a build begin with what is known."""
        known = self._read()
        if not config.set_timing_cache(config.create_timing_cache(known), False) and known:
            logger.info("timings=%s are of another build of TensorRT, and begun anew", self.path)
            config.set_timing_cache(config.create_timing_cache(b""), False)

    def keep(self, config: Any) -> None:
        """Keep what a build has measured, beside what others have kept meanwhile."""
        measured = config.get_timing_cache()
        if measured is None:
            return
        try:
            with alone(self.path):
                timings = config.create_timing_cache(bytes(measured.serialize()))
                if kept := self._read():
                    timings.combine(config.create_timing_cache(kept), False)
                write_whole(self.path, bytes(timings.serialize()))
        except OSError as error:
            logger.warning("timings=%s could not be kept: %s", self.path, error)

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError:
            return b""
