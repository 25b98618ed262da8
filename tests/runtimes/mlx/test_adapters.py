"""LoRA adapters that requests choose: in one batch, from both kinds of folders, loaded and freed while others run."""

import json
from pathlib import Path

import pytest

pytest.importorskip("mlx_lm", reason="mlx-lm is not installed", exc_type=ImportError)

import mlx.core as mx

from llama_pajamas_run_core.errors import BadInput, Busy, LoadError
from llama_pajamas_run_mlx.llm import MLXLLMBackend

#: (layer's name, inputs, outputs) of the starter chat model.
LAYERS = (("self_attn.q_proj", 160, 192), ("mlp.down_proj", 384, 160))


def tensors(seed: int, rank: int) -> dict[str, mx.array]:
    made = {}
    for layer in range(8):
        for place, (name, inputs, outputs) in enumerate(LAYERS):
            key = mx.random.key(1000 * seed + 10 * layer + place)
            path = f"model.layers.{layer}.{name}"
            made[f"{path}.lora_a"] = 0.3 * mx.random.normal((inputs, rank), key=key)
            made[f"{path}.lora_b"] = 0.3 * mx.random.normal((rank, outputs), key=mx.random.split(key)[0])
    return made


def mlx_adapter(folder: Path, seed: int, rank: int = 2, **config) -> Path:
    folder.mkdir()
    parameters = {"rank": rank, "scale": 2.0, "dropout": 0.0, "keys": [name for name, _, _ in LAYERS]}
    about = {"fine_tune_type": "lora", "num_layers": 8, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(about | config))
    mx.save_safetensors(str(folder / "adapters.safetensors"), tensors(seed, rank))
    return folder


def peft_adapter(folder: Path, seed: int, rank: int = 2, **config) -> Path:
    folder.mkdir()
    about = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj", "down_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(about | config))
    renamed = {
        f"base_model.model.{name[:-1]}{name[-1].upper()}.weight": mx.contiguous(array.T)
        for name, array in tensors(seed, rank).items()
    }
    mx.save_safetensors(str(folder / "adapter_model.safetensors"), renamed)
    return folder


def ask(backend: MLXLLMBackend, adapter: str | None, **options) -> str:
    return backend.generate("Hello", temperature=0.0, max_tokens=12, adapter=adapter, **options).text


def test_every_sequence_of_a_batch_has_its_own(starter_chat: Path, tmp_path: Path) -> None:
    one, other = mlx_adapter(tmp_path / "one", 1), mlx_adapter(tmp_path / "other", 2, rank=3)
    expected = {}
    for name, folder in (("one", one), ("other", other), (None, None)):
        with MLXLLMBackend(starter_chat, adapter=folder, dtype="float32") as whole:  # through mlx-lm's own layers
            expected[name] = ask(whole, None)
    assert len(set(expected.values())) == 3
    with MLXLLMBackend(starter_chat, adapters={"one": one, "other": other}, dtype="float32", n_lanes=4) as backend:
        assert backend.capabilities.adapters
        assert backend.details["adapters"] == ["one", "other"]
        asked = [None, "one", "other", "one", None, "other", None]
        options = {"temperature": 0.0, "max_tokens": 12}
        from llama_pajamas_run_core.types.chat import GenerationOptions, GenerationRequest

        running = [
            backend.submit(GenerationRequest("Hello", GenerationOptions(adapter=name, **options))) for name in asked
        ]
        assert [one.result().text for one in running] == [expected[name] for name in asked]
        # Keys and values kept of one adapter's answer are not taken up by another's.
        assert [ask(backend, name) for name in asked] == [expected[name] for name in asked]


def test_the_kept_prompt_is_the_adapters_own(starter_chat: Path, tmp_path: Path) -> None:
    folder = mlx_adapter(tmp_path / "one", 1)
    with MLXLLMBackend(starter_chat, adapters={"one": folder}, dtype="float32") as backend:
        text = "It was a long day, and then the llama said"
        options = {"temperature": 0.0, "max_tokens": 4}
        assert backend.generate(text, **options).usage.cached_tokens == 0
        assert backend.generate(text, adapter="one", **options).usage.cached_tokens == 0
        assert backend.generate(text, adapter="one", **options).usage.cached_tokens > 0
        backend.unload_adapter("one")
        backend.load_adapter("one", folder)
        assert backend.generate(text, adapter="one", **options).usage.cached_tokens == 0


def test_hugging_faces_folders_mean_the_same(starter_chat: Path, tmp_path: Path) -> None:
    folders = {
        "mlx": mlx_adapter(tmp_path / "mlx", 1),
        "peft": peft_adapter(tmp_path / "peft", 1),
        "stabilized": peft_adapter(tmp_path / "stabilized", 1, use_rslora=True, lora_alpha=2 * 2**0.5),
    }
    with MLXLLMBackend(starter_chat, adapters=folders, dtype="float32") as backend:
        assert ask(backend, "mlx") == ask(backend, "peft") == ask(backend, "stabilized") != ask(backend, None)


def test_they_come_and_go_beside_running_answers(starter_chat: Path, tmp_path: Path) -> None:
    one, other = mlx_adapter(tmp_path / "one", 1), mlx_adapter(tmp_path / "other", 2, rank=4)
    with MLXLLMBackend(starter_chat, dtype="float32", n_lanes=2) as backend:
        plain = ask(backend, None)
        backend.load_adapter("one", one)
        first = ask(backend, "one")
        long = backend.stream(
            "Hello!", adapter="one", logit_bias=dict.fromkeys(backend._tokenizer.ends, -100.0), max_tokens=400
        )
        reader = iter(long)
        next(reader)
        with pytest.raises(Busy, match="'one' is in use"):
            backend.unload_adapter("one")
        backend.load_adapter("other", other)
        assert ask(backend, "other") not in (plain, first)
        reader.close()
        backend.chat("Hello!", max_tokens=1)  # a step later, the other is gone
        backend.unload_adapter("one")
        assert backend.details["adapters"] == ["other"]
        with pytest.raises(BadInput, match=r"no adapter 'one'.*Loaded: other"):
            ask(backend, "one")
        with pytest.raises(BadInput, match="already"):
            backend.load_adapter("other", one)
        assert ask(backend, None) == plain


def test_a_request_whose_adapter_goes_before_its_turn_is_told(starter_chat: Path, tmp_path: Path) -> None:
    folder = mlx_adapter(tmp_path / "one", 1)
    with MLXLLMBackend(starter_chat, adapters={"one": folder}, dtype="float32", n_lanes=1) as backend:
        find = backend._adapters.find

        def found_and_gone(name: str | None):
            adapter = find(name)
            backend._adapters.find = find
            backend.unload_adapter("one")
            backend.load_adapter("one", folder)
            return adapter

        backend._adapters.find = found_and_gone
        with pytest.raises(BadInput, match="'one' was loaded anew"):
            ask(backend, "one")
        assert ask(backend, "one") != ask(backend, None)


def test_quantized_models_take_them_too(starter_chat: Path, tmp_path: Path) -> None:
    from llama_pajamas_run_mlx.export import export

    export(starter_chat, tmp_path / "small", bits=8, group_size=32, texts=["Hello!"])
    folder = mlx_adapter(tmp_path / "one", 1)
    with MLXLLMBackend(tmp_path / "small", adapters={"one": folder}, kv_bits=8) as backend:
        assert ask(backend, "one") != ask(backend, None)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"fine_tune_type": "dora"}, "kind dora.*for all requests"),
        ({"peft_type": "LORA", "use_dora": True}, "kind dora"),
        ({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"lora_parameters": {}}, "scale"),
    ],
)
def test_kinds_that_cannot_be_chosen_are_named(starter_chat, tmp_path, config, said) -> None:
    folder = mlx_adapter(tmp_path / "adapter", 1, **config)
    with pytest.raises(LoadError, match=said):
        MLXLLMBackend(starter_chat, adapters={"a": folder})


def test_what_does_not_fit_the_model_is_named(starter_chat: Path, tmp_path: Path) -> None:
    whole = {name: mx.zeros((160, 2) if name.endswith("a") else (2, 192)) for name in ("x.lora_a", "x.lora_b")}
    layer = "model.layers.0.self_attn.q_proj"
    for number, (held, said) in enumerate(
        (
            (whole, "no layer x"),
            ({f"{layer}.lora_a": mx.zeros((160, 2))}, "half of what it adds"),
            ({f"{layer}.lora_a": mx.zeros((32, 2)), f"{layer}.lora_b": mx.zeros((2, 192))}, "takes 160 numbers"),
            ({"model.norm.lora_a": mx.zeros((1, 2)), "model.norm.lora_b": mx.zeros((2, 1))}, "a RMSNorm"),
            ({f"{layer}.magnitude": mx.zeros((2,))}, "no matrix of LoRA"),
        )
    ):
        folder = mlx_adapter(tmp_path / str(number), 1)
        mx.save_safetensors(str(folder / "adapters.safetensors"), held)
        with pytest.raises(LoadError, match=said):
            MLXLLMBackend(starter_chat, adapters={"a": folder})
    (folder / "adapters.safetensors").write_bytes(b"nothing")
    with pytest.raises(LoadError, match="could not be read"):
        MLXLLMBackend(starter_chat, adapters={"a": folder})
    (folder / "adapters.safetensors").unlink()
    with pytest.raises(LoadError, match="neither"):
        MLXLLMBackend(starter_chat, adapters={"a": folder})
