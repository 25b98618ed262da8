"""What this processor can do that llama.cpp was not built for."""

from collections.abc import Collection
from functools import cache

import llama_cpp

from llama_pajamas_run_core.hardware.cpu import probe_processor

#: Instruction sets that speed up quantized models: the hardware profile's name, llama.cpp's name, its build flag. Not
#: AMX, which some compilers break (ggml-org/llama.cpp issue 20824).
_WORTH = (
    ("avx_vnni", "AVX_VNNI", "GGML_AVX_VNNI"),
    ("avx512f", "AVX512", "GGML_AVX512"),
    ("avx512_vbmi", "AVX512_VBMI", "GGML_AVX512_VBMI"),
    ("avx512_vnni", "AVX512_VNNI", "GGML_AVX512_VNNI"),
    ("avx512_bf16", "AVX512_BF16", "GGML_AVX512_BF16"),
)


def unused_instructions() -> list[str]:
    """Flags to build llama.cpp with, for what this processor has beyond the installed build; empty where that is all.

    A build with them is for this kind of processor alone: elsewhere it ends in an illegal instruction.
    """
    return list(_unused())


@cache
def _unused() -> tuple[str, ...]:
    return tuple(flags_for(probe_processor().features, llama_cpp.llama_print_system_info().decode()))


def flags_for(features: Collection[str], built: str) -> list[str]:
    """The flags for some features of a processor.

    Args:
        features: its instruction sets, as the hardware profile names them.
        built: what llama.cpp says of itself ("AVX2 = 1 | AVX512 = 1 | ...").
    """
    known = {part.split("=")[0].strip().removeprefix("CPU : ") for part in built.split("|") if "= 1" in part}
    wanted = [(name, flag) for feature, name, flag in _WORTH if feature in features]
    return [f"-D{flag}=ON" for name, flag in wanted if name not in known]
