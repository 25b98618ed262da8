"""The canonical checkpoint (a Hugging Face Qwen3 folder) as a GGUF file for llama.cpp.

Keys and tensor names follow the GGUF specification and llama.cpp's ``qwen3`` architecture. Only numpy and the ``gguf``
package are needed, and it takes a fraction of a second, so the file is made when it is first wanted.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Final, Literal

import gguf
import numpy as np
import numpy.typing as npt
from llama_pajamas_run_core.errors import LoadError, UserError
from safetensors.numpy import load_file

Precision = Literal["f16", "q8_0"]

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
