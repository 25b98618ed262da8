"""Which instructions of a processor llama.cpp leaves unused."""

import pytest

pytest.importorskip("llama_cpp")

from llama_pajamas_run_gguf.processor import flags_for, unused_instructions

PORTABLE = "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | F16C = 1 | FMA = 1 | BMI2 = 1 | LLAMAFILE = 1 | REPACK = 1 | "
ZEN_4 = ("avx2", "avx512f", "avx512bw", "avx512_vbmi", "avx512_vnni", "avx512_bf16")


def test_flags_are_for_what_the_processor_has_and_the_build_lacks():
    assert flags_for(ZEN_4, PORTABLE) == [
        "-DGGML_AVX512=ON",
        "-DGGML_AVX512_VBMI=ON",
        "-DGGML_AVX512_VNNI=ON",
        "-DGGML_AVX512_BF16=ON",
    ]
    assert flags_for(("avx2", "avx_vnni"), PORTABLE) == ["-DGGML_AVX_VNNI=ON"]
    assert flags_for((*ZEN_4, "amx_int8"), PORTABLE + "AVX512 = 1 | AVX512_VBMI = 1 | AVX512_VNNI = 1 | ") == [
        "-DGGML_AVX512_BF16=ON"
    ]
    assert flags_for(ZEN_4, PORTABLE + "AVX512 = 0 | ")[0] == "-DGGML_AVX512=ON"
    assert flags_for(("avx2",), PORTABLE) == flags_for(("neon",), "CPU : NEON = 1 | ") == []


def test_a_loaded_model_tells(load):
    assert load().details["faster_built_with"] == unused_instructions()
