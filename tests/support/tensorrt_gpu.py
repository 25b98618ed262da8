"""What tests of TensorRT on a real GPU begin with."""

import os
from importlib.util import find_spec

import pytest

#: A module's ``pytestmark``.
NEEDS_TENSORRT = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not find_spec("tensorrt") or not find_spec("pycuda"), reason="TensorRT or PyCUDA is missing"),
    pytest.mark.skipif(not os.path.exists("/dev/nvidiactl"), reason="there is no NVIDIA GPU"),
]
