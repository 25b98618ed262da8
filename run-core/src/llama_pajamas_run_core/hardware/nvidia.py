"""NVIDIA's GPUs, as NVML tells them."""

import os
from collections.abc import Mapping
from typing import Any

from llama_pajamas_run_core.hardware import nvml as library
from llama_pajamas_run_core.hardware.visibility import Card, hidden, visible
from llama_pajamas_run_core.types.hardware import NvidiaGPU


def probe_nvidia() -> tuple[tuple[NvidiaGPU, ...], str | None]:
    """The GPUs that this process may use, or why there are none.

    Returns:
        (the GPUs in CUDA's order, None), or (those that answer, why others do not).
    """
    try:
        nvml = library.load()
    except library.NoNVML as missing:
        return (), str(missing)
    return ask(nvml)


def ask(nvml: Any, environ: Mapping[str, str] | None = None) -> tuple[tuple[NvidiaGPU, ...], str | None]:
    """What :func:`probe_nvidia` gives.

    Args:
        nvml: a module with NVML's functions.
        environ: environment variables; those of this process if None.
    """
    environ = os.environ if environ is None else environ
    try:
        with library.opened(nvml):
            found, lost = cards(nvml)
    except library.NoNVML as no:
        return (), str(no)
    except nvml.NVMLError as error:
        return (), library.reason(nvml, error)
    if not found:
        return (), "; ".join(lost) or "the NVIDIA driver sees no GPU"
    gpus = visible(found, environ)
    reasons = [*lost, *filter(None, [hidden(found, gpus, environ)])]
    return gpus, "; ".join(reasons) or None


def cards(nvml: Any) -> tuple[list[Card], list[str]]:
    """All GPUs in NVML's order, whoever may use them, and what was wrong with those that do not answer.

    Args:
        nvml: a module with NVML's functions, initialized.

    Raises:
        NVMLError: of that module, where NVML does not answer at all.
    """
    driver = library.text(nvml.nvmlSystemGetDriverVersion())
    cuda = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
    serves = (cuda // 1000, cuda % 1000 // 10)
    found = []
    lost = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            gpu = _gpu(nvml, handle, index, driver, serves)
        except nvml.NVMLError as error:  # one that fell off the bus must not hide the others
            lost.append(f"GPU {index}: {error}")
            continue
        found.append(Card(gpu, _parts(nvml, handle, gpu)))
    return found, lost


def _gpu(nvml: Any, handle: Any, index: int, driver: str, cuda: tuple[int, int]) -> NvidiaGPU:
    capability = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    total, free, integrated = _memory(nvml, handle)
    return NvidiaGPU(
        index,
        library.text(nvml.nvmlDeviceGetUUID(handle)),
        library.text(nvml.nvmlDeviceGetName(handle)),
        (int(capability[0]), int(capability[1])),
        total,
        free,
        driver,
        cuda,
        integrated,
        _bus(nvml, handle),
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


def _bus(nvml: Any, handle: Any) -> str:
    try:
        return library.text(nvml.nvmlDeviceGetPciInfo(handle).busId)
    except nvml.NVMLError:
        return ""


def _parts(nvml: Any, handle: Any, gpu: NvidiaGPU) -> dict[str, NvidiaGPU] | None:
    """The parts of a GPU by their older names ("MIG-GPU-.../1/0"); None where it is not divided."""
    try:
        if nvml.nvmlDeviceGetMigMode(handle)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return None
        count = int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    except nvml.NVMLError:
        return None
    parts = {}
    for place in range(count):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
            memory = nvml.nvmlDeviceGetMemoryInfo(part)
            instance = nvml.nvmlDeviceGetGpuInstanceId(part), nvml.nvmlDeviceGetComputeInstanceId(part)
            parts[f"MIG-{gpu.uuid}/{instance[0]}/{instance[1]}"] = NvidiaGPU(
                gpu.index,
                library.text(nvml.nvmlDeviceGetUUID(part)),
                library.text(nvml.nvmlDeviceGetName(part)),
                gpu.compute_capability,
                int(memory.total),
                int(memory.free),
                gpu.driver,
                gpu.cuda,
                bus=gpu.bus,
            )
        except nvml.NVMLError:  # places need not be taken in order
            continue
    return parts
