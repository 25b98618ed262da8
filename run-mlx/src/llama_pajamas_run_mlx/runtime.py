"""What run-mlx is. Imports no SDK."""

from llama_pajamas_run_core.runtimes.info import RuntimeInfo
from llama_pajamas_run_core.types.hardware import HardwareProfile


def _supports(profile: HardwareProfile) -> str | None:
    if profile.apple is None or profile.system != "Darwin":
        return "MLX needs a Mac with Apple silicon"
    if (major := profile.release.partition(".")[0]).isdigit() and int(major) < 14:
        return f"MLX needs macOS 14, this is {profile.release}"
    return None


RUNTIME = RuntimeInfo(
    name="mlx",
    title="MLX",
    rooms={},  # a room is added with its backend; until then the selection says that there is none
    hardware="Apple silicon",
    supports=_supports,
    present="Apple silicon found",
)
