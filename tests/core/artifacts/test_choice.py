"""Which files of a repository are taken: layouts as they are found on the hub."""

import pytest

from llama_pajamas_run_core.artifacts.choice import choose, quantization_of
from llama_pajamas_run_core.errors import BadInput, Unsupported

GGUF = ["README.md", ".gitattributes", "Qwen3-0.6B-Q4_K_M.gguf", "Qwen3-0.6B-Q8_0.gguf", "Qwen3-0.6B-BF16.gguf"]
GEMMA = [
    "gemma-3-4b-it-Q4_K_M.gguf",
    "gemma-3-4b-it-UD-Q4_K_XL.gguf",
    "mmproj-BF16.gguf",
    "mmproj-F16.gguf",
    "mmproj-F32.gguf",
]
SPLIT = [
    "Q4_K_M/Big-Q4_K_M-00001-of-00002.gguf", "Q4_K_M/Big-Q4_K_M-00002-of-00002.gguf",
    "Q8_0/Big-Q8_0-00001-of-00003.gguf", "Q8_0/Big-Q8_0-00002-of-00003.gguf", "Q8_0/Big-Q8_0-00003-of-00003.gguf",
]  # fmt: skip
WHISPER = ["README.md", "ggml-tiny.bin", "ggml-base.bin", "ggml-base.en.bin", "ggml-base-q5_1.bin", "ggml-large-v3.bin"]
PIPER = [
    "en/en_US/amy/low/en_US-amy-low.onnx", "en/en_US/amy/low/en_US-amy-low.onnx.json",
    "en/en_US/lessac/medium/en_US-lessac-medium.onnx", "en/en_US/lessac/medium/en_US-lessac-medium.onnx.json",
    "en/en_US/lessac/medium/MODEL_CARD", "voices.json",
]  # fmt: skip
KOKORO = ["kokoro-v1.0.onnx", "kokoro-v1.0.int8.onnx", "voices-v1.0.bin", "README.md"]
CLIP = [
    "config.json", "preprocessor_config.json", "tokenizer.json", "onnx/model.onnx", "onnx/text_model.onnx",
    "onnx/vision_model.onnx", "onnx/vision_model_fp16.onnx", "model.safetensors",
]  # fmt: skip
VIT = ["config.json", "preprocessor_config.json", "onnx/model.onnx", "onnx/model_fp16.onnx", "onnx/model_int8.onnx"]
BIG_ONNX = ["model.onnx", "model.onnx_data", "config.json", "other.onnx_data"]
ONNX_WHISPER = [
    "config.json", "generation_config.json", "onnx/decoder_model.onnx", "onnx/decoder_with_past_model.onnx",
    "onnx/decoder_model_merged.onnx", "onnx/encoder_model.onnx", "onnx/decoder_model_merged_fp16.onnx",
    "onnx/encoder_model_fp16.onnx", "onnx/encoder_model_q4.onnx",
]  # fmt: skip
MLX = [
    "config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "tokenizer.json",
    "README.md",
]


@pytest.mark.parametrize(
    ("names", "variant", "chosen", "files"),
    [
        (ONNX_WHISPER, None, "fp32", ["onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx"]),
        (ONNX_WHISPER, "fp16", "fp16", ["onnx/encoder_model_fp16.onnx", "onnx/decoder_model_merged_fp16.onnx"]),
        (
            [name for name in ONNX_WHISPER if "merged" not in name],
            None,
            None,
            ["onnx/encoder_model.onnx", "onnx/decoder_model.onnx", "onnx/decoder_with_past_model.onnx"],
        ),
        ([*ONNX_WHISPER[:2], "decoder.onnx", "encoder.onnx"], None, None, ["encoder.onnx", "decoder.onnx"]),
    ],
)
def test_whisper_in_onnx(names, variant, chosen, files):
    choice = choose("onnx-community/whisper-tiny", names, variant)
    assert (choice.format.name, choice.variant, choice.main) == ("onnx-whisper", chosen, ".")
    assert list(choice.files) == [*files, "config.json", "generation_config.json"]
    with pytest.raises(BadInput, match="q4"):
        choose("onnx-community/whisper-tiny", names, "q4")
    assert choose("owner/t5-small", names).format.name == "onnx-vision"


@pytest.mark.parametrize(
    ("names", "variant", "kind", "chosen", "files"),
    [
        (GGUF, None, "gguf", "Q4_K_M", ["Qwen3-0.6B-Q4_K_M.gguf"]),
        (GGUF, "q8_0", "gguf", "Q8_0", ["Qwen3-0.6B-Q8_0.gguf"]),
        (GGUF, "Qwen3-0.6B-BF16.gguf", "gguf", "Qwen3-0.6B-BF16", ["Qwen3-0.6B-BF16.gguf"]),
        (["model.gguf"], None, "gguf", None, ["model.gguf"]),
        (["model-q5_k_m.gguf", "model-q2_k.gguf"], None, "gguf", "Q5_K_M", ["model-q5_k_m.gguf"]),
        (GEMMA, None, "gguf", "Q4_K_M", ["gemma-3-4b-it-Q4_K_M.gguf", "mmproj-F16.gguf"]),
        (GEMMA, "UD-Q4_K_XL", "gguf", "UD-Q4_K_XL", ["gemma-3-4b-it-UD-Q4_K_XL.gguf", "mmproj-F16.gguf"]),
        (SPLIT, None, "gguf", "Q4_K_M", SPLIT[:2]),
        (SPLIT, "Q8_0", "gguf", "Q8_0", SPLIT[2:]),
        (WHISPER, None, "ggml-whisper", "base", ["ggml-base.bin"]),
        (WHISPER, "base.en", "ggml-whisper", "base.en", ["ggml-base.en.bin"]),
        (WHISPER, "ggml-large-v3.bin", "ggml-whisper", "large-v3", ["ggml-large-v3.bin"]),
        (PIPER, None, "piper", "en_US-lessac-medium", PIPER[2:4]),
        (PIPER, "en_US-amy-low", "piper", "en_US-amy-low", PIPER[:2]),
        (KOKORO, None, "kokoro", "kokoro-v1.0", ["kokoro-v1.0.onnx", "voices-v1.0.bin"]),
        (KOKORO, "kokoro-v1.0.int8", "kokoro", "kokoro-v1.0.int8", ["kokoro-v1.0.int8.onnx", "voices-v1.0.bin"]),
        (CLIP, None, "onnx-vision", None, [*CLIP[4:6], *CLIP[:3]]),
        (VIT, None, "onnx-vision", "model", ["onnx/model.onnx", "config.json", "preprocessor_config.json"]),
        (VIT, "fp16", "onnx-vision", "model_fp16", ["onnx/model_fp16.onnx", "config.json", "preprocessor_config.json"]),
        (BIG_ONNX, None, "onnx-vision", None, ["model.onnx", "model.onnx_data", "config.json"]),
    ],
)
def test_choices(names, variant, kind, chosen, files):
    choice = choose("owner/name", names, variant)
    assert (choice.format.name, choice.variant) == (kind, chosen)
    assert sorted(choice.files) == sorted(files)
    assert choice.main == "." or choice.main in choice.files


def test_mlx():
    choice = choose("mlx-community/x", MLX, tags=("mlx", "text-generation"))
    assert (choice.format.name, choice.main) == ("mlx", ".")
    assert set(choice.files) == set(MLX) - {"README.md"}


def test_language_models_as_hugging_face_has_them():
    names = [*MLX, "model.safetensors.index.json", "consolidated.safetensors", "original/model.safetensors"]
    choice = choose("Qwen/Qwen3-4B", names, tags=("transformers", "safetensors", "text-generation"))
    assert (choice.format.name, choice.main) == ("huggingface-llm", ".")
    assert set(choice.files) == {*MLX, "model.safetensors.index.json"} - {"README.md"}
    for tags, files in ((("image-classification",), names), (("text-generation",), set(names) - {"tokenizer.json"})):
        with pytest.raises(Unsupported, match="training checkpoint"):
            choose("owner/name", files, tags=tags)


def test_there_is_no_such_variant():
    with pytest.raises(BadInput, match=r"owner/name has no quantization 'Q3_K_M'.*Q4_K_M, Q8_0, BF16|BF16, "):
        choose("owner/name", GGUF, "Q3_K_M")
    with pytest.raises(BadInput, match="no voice 'nobody'.*en_US-amy-low"):
        choose("owner/name", PIPER, "nobody")
    with pytest.raises(BadInput, match="no model 'huge'"):
        choose("owner/name", WHISPER, "huge")


def test_repositories_that_nothing_here_loads():
    with pytest.raises(Unsupported, match=r"training checkpoint.*owner/name-GGUF"):
        choose("owner/name", MLX)
    with pytest.raises(Unsupported, match="holds no model"):
        choose("owner/name", ["README.md"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Qwen3-0.6B-Q4_K_M.gguf", "Q4_K_M"),
        ("llama-2-7b.Q5_0.gguf", "Q5_0"),
        ("model-iq2_xxs.gguf", "IQ2_XXS"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("gemma-3-UD-IQ1_S.gguf", "UD-IQ1_S"),
        ("x-fp16.gguf", "F16"),
        ("Q6_K/model-00001-of-00002.gguf", "Q6_K"),
        ("model.gguf", None),
        ("Qwen2.5-7B.gguf", None),
        ("Phi-3-mini-4k-instruct-q4.gguf", "Q4"),
    ],
)
def test_quantizations_in_names(name, expected):
    assert quantization_of(name) == expected
