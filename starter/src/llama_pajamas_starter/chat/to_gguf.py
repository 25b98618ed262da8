"""The canonical checkpoint (a Hugging Face Qwen3 folder) as a GGUF file for llama.cpp.

Keys and tensor names follow the GGUF specification and llama.cpp's ``qwen3`` architecture. Only numpy and the ``gguf``
package are needed, and it takes a fraction of a second, so the file is made when it is first wanted.
"""

from pathlib import Path
from typing import Any, Final, Literal

import gguf
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from llama_pajamas_run_core.artifacts.folder import read_json
from llama_pajamas_run_core.artifacts.safetensors import check_safetensors
from llama_pajamas_run_core.artifacts.whole import made_whole
from llama_pajamas_run_core.errors import LoadError, UserError

Precision = Literal["f16", "q8_0"]

_WEIGHTS: Final = "model.safetensors"
_DESCRIPTIONS: Final = ("config.json", "tokenizer.json", "tokenizer_config.json")
_LAYER_TENSORS: Final = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_FILE_TYPES: Final = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}


def convert(folder: Path, target: Path, precision: Precision = "f16") -> Path:
    """Writes the checkpoint in ``folder`` to the GGUF file ``target``, all or nothing.

    Args:
        folder: holds model.safetensors, config.json, tokenizer.json and tokenizer_config.json.
        target: the file to write; its folder is made.
        precision: of the matrices; norms stay float32. Q8_0 needs rows that are multiples of 32.

    Returns:
        ``target``.

    Raises:
        LoadError: a file of the checkpoint is missing or not what it should be.
        UserError: a precision that these tensors cannot have.
    """
    if missing := [name for name in (*_DESCRIPTIONS, _WEIGHTS) if not (folder / name).is_file()]:
        raise LoadError(f"{folder} lacks {', '.join(missing)}.")
    config, tokenizer, tokenizer_config = (read_json(folder / name) for name in _DESCRIPTIONS)
    if config.get("model_type") != "qwen3":
        raise LoadError(f"{folder / 'config.json'}: model_type is {config.get('model_type')!r}, not 'qwen3'.")
    if precision not in _FILE_TYPES:
        raise UserError(f"precision {precision!r} is not known.", hint=f"Choose one of {', '.join(_FILE_TYPES)}.")
    check_safetensors(folder / _WEIGHTS)
    tensors = load_file(folder / _WEIGHTS)
    with made_whole(target, overwrite=True) as part:
        writer = gguf.GGUFWriter(part, "qwen3")
        try:
            _add_metadata(writer, config, precision)
            _add_tokenizer(writer, config, tokenizer, tokenizer_config)
        except KeyError as error:
            raise LoadError(f"{folder} is no whole checkpoint: its descriptions lack {error}.") from error
        for key, values in tensors.items():
            _add_tensor(writer, gguf_name(key), values, precision)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return target


def gguf_name(name: str) -> str:
    """llama.cpp's name of a Hugging Face tensor: "model.layers.0.mlp.up_proj.weight" -> "blk.0.ffn_up.weight".

    Raises:
        LoadError: a tensor that Qwen3 does not have.
    """
    fixed = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in fixed:
        return fixed[name]
    parts = name.split(".")
    if parts[:2] == ["model", "layers"] and parts[-1] == "weight":
        inner = _LAYER_TENSORS.get(".".join(parts[3:-1]))
        if inner:
            return f"blk.{parts[2]}.{inner}.weight"
    raise LoadError(f"The tensor {name} does not belong to a Qwen3 model.")


def _add_metadata(writer: gguf.GGUFWriter, config: dict[str, Any], precision: Precision) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("llama-pajamas starter chat")
    writer.add_license("apache-2.0")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(_FILE_TYPES[precision])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_sampling_temp(0.0)  # greedy unless asked otherwise, as generation_config.json says


def _add_tokenizer(
    writer: gguf.GGUFWriter, config: dict[str, Any], tokenizer: dict[str, Any], tokenizer_config: dict[str, Any]
) -> None:
    ids: dict[str, int] = dict(tokenizer["model"]["vocab"])
    added = {token["content"]: token for token in tokenizer["added_tokens"]}
    ids.update({content: token["id"] for content, token in added.items()})
    tokens = sorted(ids, key=ids.__getitem__)
    types = [
        gguf.TokenType.NORMAL
        if token not in added
        else gguf.TokenType.CONTROL
        if added[token]["special"]
        else gguf.TokenType.USER_DEFINED
        for token in tokens
    ]
    writer.add_tokenizer_model("gpt2")
    # The rule by which text is cut before merging; it must be the one in tokenizer.json.
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([int(kind) for kind in types])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_eot_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_bos_token_id(config["pad_token_id"])  # llama.cpp wants one; add_bos_token says that it is never put in
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer_config["chat_template"])


def _add_tensor(writer: gguf.GGUFWriter, name: str, values: npt.NDArray[Any], precision: Precision) -> None:
    if values.ndim == 1:
        writer.add_tensor(name, values.astype(np.float32))
    elif precision == "q8_0":
        if values.shape[1] % 32:
            raise UserError(f"{name} has rows of {values.shape[1]}, which Q8_0 cannot hold.", hint="Use f16.")
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(values.astype(np.float32), kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, values.astype(np.float16))
