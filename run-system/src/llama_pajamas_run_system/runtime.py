"""What run-system is. Imports no SDK."""

import sys

from llama_pajamas_run_core.runtimes.info import Room, RuntimeInfo
from llama_pajamas_run_core.types.hardware import HardwareProfile
from llama_pajamas_run_core.types.tasks import Task

_ON_A_MAC = sys.platform == "darwin"


def _supports(profile: HardwareProfile) -> str | None:
    if profile.system not in ("Linux", "Windows", "Darwin"):
        return f"run-system has no voice for {profile.system}"
    return None


RUNTIME = RuntimeInfo(
    name="system",
    title="the system voice",
    rooms={
        Task.TTS: Room(
            "llama_pajamas_run_system.tts:SystemTTSBackend",
            formats=("system-voice",),
            families="eSpeak NG (Linux, Windows), the system's own voices (macOS)",
            modules=("AVFoundation",) if _ON_A_MAC else ("espeakng_loader",),
            install=f"uv pip install {'pyobjc-framework-AVFoundation' if _ON_A_MAC else 'espeakng-loader'}",
        ),
    },
    hardware="any CPU, on Linux, Windows and macOS",
    supports=_supports,
)
