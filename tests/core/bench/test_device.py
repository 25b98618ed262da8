"""The matrix product and the copies, on stand-ins for CUDA's driver and cuBLAS whose GPU memory is the host's."""

import ctypes
import ctypes.util

import numpy as np
import pytest

from llama_pajamas_run_core.bench import cublas, device
from llama_pajamas_run_core.bench.cuda import Device
from llama_pajamas_run_core.bench.figures import Figure, Line, attempt, paced
from llama_pajamas_run_core.errors import InferenceError, MissingDependency, OutOfMemory, Unsupported


class Driver:
    """What :class:`Device` calls, with the host's memory for the GPU's."""

    def __init__(self, *, count=1, memory=1 << 30):
        self.count, self.memory, self.blocks, self.retained, self.clock = count, memory, {}, 0, 0.0

    def cuInit(self, flags):
        return 0

    def cuDriverGetVersion(self, version):
        version._obj.value = 13000
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = self.count
        return 0

    def cuDeviceGet(self, place, index):
        place._obj.value = index
        return 0

    def cuDeviceGetName(self, text, size, index):
        text.value = b"NVIDIA H200"
        return 0

    def cuDevicePrimaryCtxRetain(self, context, index):
        context._obj.value, self.retained = 1, self.retained + 1
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, index):
        self.retained -= 1
        return 0

    def cuCtxSetCurrent(self, context):
        return 0

    def cuCtxSynchronize(self):
        return 0

    def cuMemAlloc_v2(self, pointer, size):
        if size > self.memory:
            return 2
        block = ctypes.create_string_buffer(size)
        pointer._obj.value = ctypes.addressof(block)
        self.blocks[pointer._obj.value] = block
        return 0

    def cuMemFree_v2(self, pointer):
        del self.blocks[pointer]
        return 0

    cuMemAllocHost_v2 = cuMemAlloc_v2
    cuMemFreeHost = cuMemFree_v2

    def cuMemcpyHtoD_v2(self, target, source, size):
        ctypes.memmove(target, source, size)
        return 0

    cuMemcpyDtoH_v2 = cuMemcpyHtoD_v2

    def cuEventCreate(self, event, flags):
        return 0

    def cuEventRecord(self, event, stream):
        self.clock += 0.25
        return 0

    def cuEventSynchronize(self, event):
        return 0

    def cuEventElapsedTime(self, elapsed, first, last):
        elapsed._obj.value = 0.25
        return 0

    def cuEventDestroy_v2(self, event):
        return 0

    def cuGetErrorString(self, code, text):
        text._obj.value = b"out of memory" if code == 2 else b"strange"
        return 0


class Function:
    """Takes argtypes, as ctypes's functions do."""

    def __init__(self, call):
        self.call = call

    def __call__(self, *arguments):
        return self.call(*arguments)


class Blas:
    """What cuBLAS does for us."""

    def __init__(self, major=13, wrong=False):
        self.wrong, self.handles = wrong, 0
        self.cublasGetProperty = Function(lambda which, value: setattr(value._obj, "value", (major, 1, 2)[which]) or 0)
        self.cublasCreate_v2 = Function(self.create)
        self.cublasDestroy_v2 = Function(self.destroy)
        self.cublasGemmEx = Function(self.multiply)

    def create(self, handle):
        handle._obj.value, self.handles = 7, self.handles + 1
        return 0

    def destroy(self, handle):
        self.handles -= 1
        return 0

    def multiply(self, handle, ta, tb, m, n, k, alpha, a, at, lda, b, bt, ldb, beta, c, ct, ldc, compute, algorithm):
        assert (ta, tb, at, bt, ct, compute) == (0, 0, 2, 2, 2, 68)
        first, second, result = (
            np.frombuffer((ctypes.c_char * (2 * n * n)).from_address(place), np.float16).reshape(n, n)
            for place in (a, b, c)
        )
        # Column-major: the transposes of what lies there.
        result[...] = (first.T.astype(np.float32) @ second.T.astype(np.float32)).T * (0 if self.wrong else 1)
        return 0


@pytest.fixture
def blas(monkeypatch):
    made = Blas()
    monkeypatch.setattr(cublas, "find", lambda newest: cublas.Library("libcublas.so.13", (13, 1, 2), made))
    return made


def test_the_product_is_measured_and_checked(blas):
    driver = Driver()
    with Device(driver=driver) as gpu:
        assert (gpu.name, gpu.version) == ("NVIDIA H200", (13, 0))
        line = device.product_line(gpu, size=128, runs=5)
    assert (line.gpu.median, line.gpu.runs, line.gpu.unit) == (0.25, 5, "ms")
    assert "cuBLAS 13.1.2" in line.gpu.note
    assert line.cpu.unit == "ms"
    assert line.cpu.runs == 3
    assert line.ratio == pytest.approx(line.cpu.median / 0.25)
    assert (driver.blocks, driver.retained, blas.handles) == ({}, 0, 0)


def test_a_wrong_product_has_no_time(blas):
    blas.wrong = True
    with Device(driver=Driver()) as gpu:
        line = device.product_line(gpu, size=64, runs=2)
    assert line.gpu == "The GPU's matrix product is wrong: its relative error is 1."
    assert blas.handles == 0


def test_only_the_size_of_the_floor_is_held_to_it():
    assert device.product_line("no GPU", size=64).floor is None
    line = Line("x", "-", Figure(4.9, 4, 6, 3, "ms"), 5.0, "lower")
    assert line.reached is True
    assert Line("x", "-", Figure(5.1, 4, 6, 3, "ms"), 5.0, "lower").reached is False
    assert Line("x", "-", "no GPU", 5.0, "lower").reached is None


def test_copies_go_both_ways_from_both_kinds_of_memory():
    driver = Driver()
    with Device(driver=driver) as gpu:
        lines = device.copy_lines(gpu, size=1 << 16, runs=3)
    assert [line.what for line in lines] == [
        "copy, pinned, host to GPU", "copy, pinned, GPU to host",
        "copy, pageable, host to GPU", "copy, pageable, GPU to host",
    ]  # fmt: skip
    assert all(line.gpu.unit == "GB/s" and line.gpu.median > 0 and line.gpu.runs == 3 for line in lines)
    assert driver.blocks == {}


def test_a_copy_that_does_not_fit_is_a_reason_and_the_others_are_measured():
    with Device(driver=Driver(memory=1 << 10)) as gpu:
        lines = device.copy_lines(gpu, size=1 << 16, runs=2)
        assert {line.gpu for line in lines} == {"The GPU's driver has no memory left (out of memory)."}
        assert device.copy_lines(gpu, size=1 << 10, runs=2)[0].gpu.runs == 2


def test_errors_of_the_driver_become_ours():
    with pytest.raises(Unsupported, match="no GPU 1: this process sees 1"):
        Device(1, Driver())
    driver = Driver()
    driver.cuInit = lambda flags: 100
    with pytest.raises(InferenceError, match=r"cuInit failed: strange \(error 100\)"):
        Device(driver=driver)
    with Device(driver=Driver(memory=8)) as gpu, pytest.raises(OutOfMemory):
        gpu.allocate(9)


def test_a_stand_in_is_not_taken_for_cublas():
    strange = ctypes.util.find_library("m") or ctypes.util.find_library("c")
    with pytest.raises(MissingDependency, match="cuBLAS"):
        cublas.find(13, [strange, "libdoesnotexist.so.1"])


def test_the_newest_that_the_driver_serves_is_taken(monkeypatch):
    libraries = {"a": Blas(13), "b": Blas(12)}
    silent = Blas()
    silent.cublasGetProperty = Function(lambda which, value: 0)
    libraries["empty"] = silent
    monkeypatch.setattr(cublas, "_load", libraries.get)
    assert cublas.find(13, ["empty", "a", "b"]).path == "a"
    assert cublas.find(12, ["empty", "a", "b"]).version == (12, 1, 2)


def test_where_cublas_is_looked_for(tmp_path):
    for name in ("libcublas.so.13", "libcublas.so.12"):
        (tmp_path / name).touch()
    found = list(cublas.candidates(13, [tmp_path]))
    assert found[:4] == [
        str(tmp_path / "libcublas.so.13"), "libcublas.so.13", str(tmp_path / "libcublas.so.12"), "libcublas.so.12",
    ]  # fmt: skip
    assert "libcublas.so.13" not in list(cublas.candidates(12, []))


def test_what_fails_is_a_reason():
    assert attempt(lambda: 1 / 0) == "ZeroDivisionError: division by zero"
    assert Line("x", "why", Figure(1.0, 1.0, 1.0, 1, "ms")).plain()["cpu"] == {"reason": "why"}


def test_work_is_repeated_until_it_takes_long_enough():
    calls = []
    taken = paced(lambda: calls.append(1), seconds=0.001, runs=3)
    assert len(taken) == 3
    assert len(calls) > 10
    assert all(0 < seconds < 0.001 for seconds in taken)


@pytest.mark.gpu
def test_this_machines_gpu_multiplies_below_the_floor():
    with Device() as gpu:
        line = device.product_line(gpu)
        assert line.reached is True, line.gpu
        assert all(line.gpu.median > 1 for line in device.copy_lines(gpu))
