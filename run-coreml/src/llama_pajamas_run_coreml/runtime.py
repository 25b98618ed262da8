"""What run-coreml is. Imports no SDK."""

from llama_pajamas_run_core.runtimes.info import RuntimeInfo
from llama_pajamas_run_core.types.hardware import HardwareProfile


def _supports(profile: HardwareProfile) -> str | None:
    if profile.system not in ("Darwin", "iOS"):
        return "Core ML exists on macOS and iOS only"
    return None


RUNTIME = RuntimeInfo(
    name="coreml",
    title="Core ML",
    rooms={},  # a room is added with its backend; until then the selection says that there is none
    hardware="Macs, iPhones and iPads; on Apple silicon with the Neural Engine",
    supports=_supports,
    present="an Apple system found",
)
