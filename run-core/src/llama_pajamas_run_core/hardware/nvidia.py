"""NVIDIA's GPUs, as NVML tells them through the package nvidia-ml-py."""

from typing import Any, Final

from llama_pajamas_run_core.types.hardware import NvidiaGPU

INSTALL: Final = "uv pip install nvidia-ml-py"


def probe_nvidia() -> tuple[tuple[NvidiaGPU, ...], str | None]:
    """The GPUs, or why there are none.

    Returns:
        (the GPUs in NVML's order, None), or (none, the reason).
    """
    try:
        import pynvml
    except ImportError:
        return (), f"the package nvidia-ml-py is not installed: `{INSTALL}`"
    return ask(pynvml)


def ask(nvml: Any) -> tuple[tuple[NvidiaGPU, ...], str | None]:
    """What :func:`probe_nvidia` gives, from a module with NVML's functions."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return (), _reason(nvml, error)
    try:
        return _gpus(nvml)
    except nvml.NVMLError as error:
        return (), _reason(nvml, error)
    finally:
        nvml.nvmlShutdown()


def _gpus(nvml: Any) -> tuple[tuple[NvidiaGPU, ...], str | None]:
    driver = _text(nvml.nvmlSystemGetDriverVersion())
    cuda = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
    serves = (cuda // 1000, cuda % 1000 // 10)
    gpus = []
    lost = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            gpus.append(_gpu(nvml, index, driver, serves))
        except nvml.NVMLError as error:  # one that fell off the bus must not hide the others
            lost.append(f"GPU {index}: {error}")
    if gpus:
        return tuple(gpus), "; ".join(lost) or None
    return (), "; ".join(lost) or "the NVIDIA driver sees no GPU"


def _gpu(nvml: Any, index: int, driver: str, cuda: tuple[int, int]) -> NvidiaGPU:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    capability = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    total, free, integrated = _memory(nvml, handle)
    return NvidiaGPU(
        index,
        _text(nvml.nvmlDeviceGetUUID(handle)),
        _text(nvml.nvmlDeviceGetName(handle)),
        (int(capability[0]), int(capability[1])),
        total,
        free,
        driver,
        cuda,
        integrated,
    )


def _memory(nvml: Any, handle: Any) -> tuple[int, int, bool]:
    """(bytes in all, bytes free, whether they are the host's)."""
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        return int(memory.total), int(memory.free), False
    except nvml.NVMLError_NotSupported:
        # A GPU without memory of its own (Jetson, GB10) has none to tell: it is the host's.
        from llama_pajamas_run_core.hardware.cpu import probe_processor

        processor = probe_processor()
        return processor.memory, processor.memory_free, True


def _reason(nvml: Any, error: Exception) -> str:
    known = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver is installed",
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed, but not loaded",
        nvml.NVML_ERROR_NO_PERMISSION: "this user may not talk to the NVIDIA driver",
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver was updated and needs a restart of the machine",
    }
    return known.get(getattr(error, "value", None), f"the NVIDIA driver does not answer: {error}")


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
