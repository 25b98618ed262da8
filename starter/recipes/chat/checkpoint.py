"""Writes and reads the canonical checkpoint: a Hugging Face Qwen3 folder in float16."""

import json
from pathlib import Path

import torch
from model import Config, Qwen3
from rendering import template_text
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer


def save(model: Qwen3, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes model.safetensors, config.json, tokenizer.json, tokenizer_config.json and generation_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: p.detach().to("cpu", torch.float16).contiguous() for name, p in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    end, pad = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {
        str(token_id): {
            "content": token.content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
            "special": token.special,
        }
        for token_id, token in tokenizer.get_added_tokens_decoder().items()
    }  # fmt: skip
    _write(folder / "config.json", model.c.hugging_face(end, pad))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": added,
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "unk_token": None,
            "clean_up_tokenization_spaces": False,
            "model_max_length": model.c.context,
            "chat_template": template_text(),
        },
    )
    _write(folder / "generation_config.json", {"do_sample": False, "eos_token_id": [end, pad], "pad_token_id": pad})


def load(folder: Path) -> tuple[Qwen3, Tokenizer]:
    """Reads what :func:`save` wrote, as float32."""
    c = json.loads((folder / "config.json").read_text())
    config = Config(
        vocabulary=c["vocab_size"], width=c["hidden_size"], layers=c["num_hidden_layers"], inner=c["intermediate_size"],
        heads=c["num_attention_heads"], kv_heads=c["num_key_value_heads"], head=c["head_dim"], theta=c["rope_theta"],
        epsilon=c["rms_norm_eps"], context=c["max_position_embeddings"],
    )  # fmt: skip
    model = Qwen3(config)
    model.load_state_dict({name: p.float() for name, p in load_file(folder / "model.safetensors").items()})
    return model, Tokenizer.from_file(str(folder / "tokenizer.json"))


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
