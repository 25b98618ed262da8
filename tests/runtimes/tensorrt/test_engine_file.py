"""Engine files, sidecars, memory pools, shapes and the table of versions: all that needs no TensorRT."""

import gc
import json
import threading
from dataclasses import fields, replace

import numpy as np
import pytest

from llama_pajamas_run_core.errors import BadInput, LoadError, OutOfMemory, Unsupported
from llama_pajamas_run_core.hardware.profiles import from_json
from llama_pajamas_run_tensorrt import runtime
from llama_pajamas_run_tensorrt._driver import Driver, DriverError
from llama_pajamas_run_tensorrt._versions import TABLE, Differences, compatible, differences, parse
from llama_pajamas_run_tensorrt.engine_file import (
    EngineRecord,
    check_engine,
    checksum,
    made_here,
    read_engine,
    remember_made_here,
    sidecar,
)
from llama_pajamas_run_tensorrt.memory import Budget, DeviceArray, Pool
from llama_pajamas_run_tensorrt.tensors import Tensor, profile_for

PLAN = b"ftrt" + bytes(20) + bytes([8, 6, 1, 6]) + bytes(100)


def record(path, **changes):
    made = EngineRecord(
        sha256=checksum(path), tensorrt="8.6.1", cuda="12.0", capability=(9, 0), gpu="NVIDIA H200", precision="fp16",
        profiles=({"images": ((1, 3, 8, 8), (8, 3, 8, 8), (64, 3, 8, 8))},), source="yolo.onnx", source_sha256="ab",
    )  # fmt: skip
    return replace(made, **changes)


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "yolo.engine"
    path.write_bytes(PLAN)
    return path


def check(path, trust=False, **changes):
    machine = {"tensorrt": "8.6.1", "capability": (9, 0), "gpu": "NVIDIA H200", **changes}
    check_engine(read_engine(path), trust=trust, **machine)


def test_a_sidecar_is_read_as_it_was_written(engine):
    made = record(engine, task="vision", description={"task": "detect"}, accuracy={"loss": 0.1}, build={"seconds": 3})
    assert made.write(engine) == sidecar(engine)
    assert EngineRecord.read(engine) == made
    assert not list(engine.parent.glob("*.part"))
    assert EngineRecord.read(engine.with_name("other.engine")) is None


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"format": 1}', '{"format": 2}', "not json"])
def test_a_damaged_sidecar_is_told(engine, damage):
    sidecar(engine).write_text(damage)
    with pytest.raises(LoadError, match=r"yolo.engine.json is (a damaged|of format).*Build it anew"):
        read_engine(engine)


@pytest.mark.parametrize(
    "missing", [one.name for one in fields(EngineRecord) if one.name in ("sha256", "profiles", "gpu")]
)
def test_a_sidecar_that_lacks_something_is_told(engine, missing):
    record(engine).write(engine)
    whole = json.loads(sidecar(engine).read_text())
    del whole[missing]
    sidecar(engine).write_text(json.dumps(whole))
    with pytest.raises(LoadError, match="damaged engine record"):
        read_engine(engine)


def test_a_plan_tells_its_version_and_where_it_begins(engine, tmp_path):
    found = read_engine(engine)
    assert (found.offset, found.version, found.metadata, found.record) == (0, "8.6.1", {}, None)
    text = b'{"task": "detect", "imgsz": [640, 640]}'
    wrapped = tmp_path / "wrapped.engine"
    wrapped.write_bytes(len(text).to_bytes(4, "little") + text + PLAN)
    found = read_engine(wrapped)
    assert (found.offset, found.version) == (4 + len(text), "8.6.1")
    assert found.metadata == {"task": "detect", "imgsz": [640, 640]}
    assert found.plan() == PLAN
    newer = tmp_path / "newer.engine"
    newer.write_bytes(b"ftrt\1\0\0\0" + PLAN[8:])
    assert read_engine(newer).version is None


def test_only_engines_that_were_made_here_or_are_trusted_run(engine, tmp_path, monkeypatch):
    record(engine).write(engine)
    with pytest.raises(BadInput, match="an engine is code that runs with your rights.*trust=True"):
        check(engine)
    check(engine, trust=True)
    monkeypatch.setenv("LLAMA_PAJAMAS_TRUSTED_ENGINES", f"/nowhere:{tmp_path}")
    check(engine)
    monkeypatch.setenv("LLAMA_PAJAMAS_TRUSTED_ENGINES", str(tmp_path / "deeper"))
    with pytest.raises(BadInput):
        check(engine)
    monkeypatch.delenv("LLAMA_PAJAMAS_TRUSTED_ENGINES")
    assert not made_here(checksum(engine))
    remember_made_here(checksum(engine))
    check(engine)
    assert not made_here("")


def test_a_link_out_of_a_trusted_folder_is_not_trusted(engine, tmp_path, monkeypatch):
    (tmp_path / "trusted").mkdir()
    link = tmp_path / "trusted" / "yolo.engine"
    link.symlink_to(engine)
    monkeypatch.setenv("LLAMA_PAJAMAS_TRUSTED_ENGINES", str(tmp_path / "trusted"))
    with pytest.raises(BadInput, match="trust=True"):
        check(link)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tensorrt": "10.14.1.48"}, "was built with TensorRT 8.6.1, this is TensorRT 10.14.1.48"),
        ({"capability": (8, 9), "gpu": "RTX 4090"}, r"capability 9.0 \(NVIDIA H200\), this GPU has 8.9 \(RTX 4090\)"),
    ],
)  # fmt: skip
def test_another_machine_is_told_with_what_to_build(engine, change, message):
    record(engine).write(engine)
    hint = "llama-pajamas export tensorrt yolo.onnx --precision fp16 --batch 1:8:64 --output yolo.engine"
    with pytest.raises(LoadError, match=message) as raised:
        check(engine, trust=True, **change)
    assert hint in str(raised.value)


def test_an_engine_in_int8_is_built_anew_with_pictures(engine):
    record(engine, precision="int8").write(engine)
    with pytest.raises(LoadError, match="--precision int8 --batch 1:8:64 --calibrate FOLDER --output yolo.engine"):
        check(engine, tensorrt="10.14.1")


def test_without_a_sidecar_the_plan_itself_tells_the_version(engine):
    check(engine, trust=True, tensorrt="8.6.0")  # the module and its libraries may differ in the patch number
    with pytest.raises(LoadError, match="built with TensorRT 8.6.1, this is TensorRT 8.5.3"):
        check(engine, trust=True, tensorrt="8.5.3")


def test_versions():
    assert parse("10.14.1.48.post1") == (10, 14, 1, 48)
    assert parse("8.6.1") == (8, 6, 1)
    assert [differences(version).series for version in ("8.6.1", "8.6.0", "10.0.1", "10.14.1.48.post1", "11.4.0")] == [
        "8.6", "8.6", "10", "10", "11",
    ]  # fmt: skip
    assert differences("12.1") is TABLE[11]
    for old in ("7.2.3", "8.5.3", "9.3.0", ""):
        with pytest.raises(Unsupported, match="works with TensorRT 8.6, 10 and 11"):
            differences(old)
    assert compatible("8.6.1", "8.6.1.6")
    assert not compatible("8.6.0", "8.6.1")
    assert not compatible("10.1.0", "10.14.0")


def test_the_table_of_differences():
    told = {
        series: {name: getattr(TABLE[major], name) for name in ("explicit_batch", "strongly_typed", "calibrators")}
        for major, series in ((8, "8.6"), (10, "10"), (11, "11"))
    }
    assert told == {
        "8.6": {"explicit_batch": True, "strongly_typed": False, "calibrators": True},
        "10": {"explicit_batch": False, "strongly_typed": False, "calibrators": True},
        "11": {"explicit_batch": False, "strongly_typed": True, "calibrators": False},
    }
    assert TABLE[8].opset == 17
    assert all(isinstance(row, Differences) for row in TABLE.values())


PROFILE = json.dumps({
    "system": "Linux", "release": "", "processor": {"name": "x", "architecture": "x86_64", "cores": 8, "threads": 8},
    "nvidia": [{"index": 0, "uuid": "GPU-1", "name": "NVIDIA V100", "compute_capability": [7, 0], "memory": 1,
                "memory_free": 1, "driver": "535.1", "cuda": [12, 2]}],
})  # fmt: skip


@pytest.mark.parametrize(
    ("installed", "reason"),
    [
        ({}, "TensorRT 10 needs compute capability 7.5, the GPU has 7.0"),
        ({"tensorrt": "10.14.1"}, "TensorRT 10 needs compute capability 7.5, the GPU has 7.0"),
        ({"tensorrt": "8.6.1"}, None),
        ({"tensorrt-bindings": "8.6.1"}, None),
        ({"tensorrt": "7.1"}, "TensorRT 10 needs compute capability 7.5, the GPU has 7.0"),
    ],
)
def test_what_the_hardware_has_to_be_follows_the_installed_version(monkeypatch, installed, reason):
    def version(name):
        if name not in installed:
            raise runtime.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(runtime, "version", version)
    runtime._installed.cache_clear()
    try:
        assert runtime.RUNTIME.supports(from_json(PROFILE)) == reason
    finally:
        runtime._installed.cache_clear()


def test_packages_for_cuda_12_need_its_driver_alone(monkeypatch):
    def version(name):
        if name != "tensorrt-cu12":
            raise runtime.PackageNotFoundError(name)
        return "10.9.0.34"

    ada = PROFILE.replace("[7, 0]", "[8, 9]")
    runtime._installed.cache_clear()
    assert runtime.RUNTIME.supports(from_json(ada)) == "needs a driver for CUDA 13.0, driver 535.1 serves CUDA 12.2"
    monkeypatch.setattr(runtime, "version", version)
    runtime._installed.cache_clear()
    try:
        assert runtime.RUNTIME.supports(from_json(ada)) is None
    finally:
        runtime._installed.cache_clear()


def test_shapes_and_profiles():
    images = Tensor("images", (None, 3, 8, 8), np.float32, (((1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 8)),
                                                           ((2, 3, 8, 8), (8, 3, 8, 8), (64, 3, 8, 8))))  # fmt: skip
    sizes = Tensor("sizes", (None, 2), np.int32, (((1, 2), (1, 2), (1, 2)), ((2, 2), (8, 2), (64, 2))))
    both = (images, sizes)
    assert images.largest == (64, 3, 8, 8)
    assert (images.size(1), images.size(0), images.size(9)) == (3, None, None)
    assert profile_for(both, {"images": (1, 3, 8, 8), "sizes": (1, 2)}, "x", complete=True) == 0
    assert profile_for(both, {"images": (9, 3, 8, 8), "sizes": (9, 2)}, "x", complete=True) == 1
    with pytest.raises(BadInput, match="A batch of 65 is past what x was built for: 1 or 2 to 64"):
        profile_for(both, {"images": (65, 3, 8, 8), "sizes": (65, 2)}, "x")
    with pytest.raises(BadInput, match="No profile of x takes these shapes together: images .*, sizes"):
        profile_for(both, {"images": (1, 3, 8, 8), "sizes": (2, 2)}, "x")
    with pytest.raises(BadInput, match="x needs the input sizes as well"):
        profile_for(both, {"images": (1, 3, 8, 8)}, "x", complete=True)


class Heap:
    """Memory that is only counted."""

    def __init__(self, size=1 << 30):
        self.size, self.taken, self.calls, self.next = size, {}, 0, 4096

    def allocate(self, size):
        self.calls += 1
        if sum(self.taken.values()) + size > self.size:
            raise OutOfMemory("the device has no more")
        self.next += size + 4096
        self.taken[self.next] = size
        return self.next

    def free(self, handle):
        del self.taken[handle]


def test_memory_is_used_again():
    heap = Heap()
    pool = Pool(heap.allocate, heap.free)
    first = pool.take(1000)
    assert first.size == 1024
    address = first.address
    first.release()
    first.release()
    with pytest.raises(BadInput, match="given back"):
        _ = first.address
    assert pool.take(900).address == address  # nothing holds it: it goes back at once
    gc.collect()
    small, large = pool.take(1024), pool.take(3 << 20)
    assert (small.address, large.size, heap.calls) == (address, 4 << 20, 2)
    assert pool.budget.used == 1024 + (4 << 20)
    large.release()
    assert pool.take(1500).size == 2048  # not the four megabytes
    assert pool.trim() > 0
    assert heap.taken == {address: 1024}
    pool.close()
    assert not heap.taken
    assert pool.budget.used == 0
    with pytest.raises(BadInput):
        _ = small.address
    with pytest.raises(BadInput, match="closed"):
        pool.take(1)


def test_pools_share_a_budget_and_make_room():
    heap, budget = Heap(), Budget(8192, "GPU 3")
    one, other = Pool(heap.allocate, heap.free, budget=budget), Pool(heap.allocate, heap.free, budget=budget)
    kept = one.take(4096)
    with pytest.raises(OutOfMemory, match="8,192 bytes more on GPU 3 would pass the limit of 8,192; 4,096 are taken"):
        other.take(8192)
    idle = one.take(4096)
    idle.release()
    with pytest.raises(OutOfMemory):
        other.take(2048)  # what lies idle in another pool is not its to free
    assert one.take(2048).size == 4096
    kept.release()
    assert one.take(8192).size == 8192  # its own idle memory makes room


def test_a_device_without_memory_is_tried_again_after_trimming():
    heap = Heap(8192)
    pool = Pool(heap.allocate, heap.free)
    pool.take(8192).release()
    assert pool.take(1024).size == 1024
    held = pool.take(4096)
    with pytest.raises(OutOfMemory, match="no more"):
        pool.take(8192)
    assert pool.budget.used == held.size


def test_blocks_are_given_back_from_any_thread():
    heap = Heap()
    pool = Pool(heap.allocate, heap.free)
    blocks = [pool.take(1024) for _ in range(64)]

    def drop():
        while True:
            try:
                blocks.pop().release()
            except IndexError:
                return

    threads = [threading.Thread(target=drop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = [pool.take(1024) for _ in range(64)]
    assert len({block.address for block in again}) == 64
    assert heap.calls == 64


def test_arrays_and_their_views():
    heap = Heap()
    pool = Pool(heap.allocate, heap.free)
    array = DeviceArray(pool.take(4 * 6), (2, 3), np.float32)
    assert (array.nbytes, repr(array)) == (24, "DeviceArray([2, 3], float32)")
    view = array.view((6,), np.int16)
    address = array.address
    del array
    gc.collect()
    assert view.address == address
    assert view.__cuda_array_interface__["typestr"] == "<i2"
    with pytest.raises(BadInput, match="the block has 512"):
        view.view((600,))
    view.release()
    with pytest.raises(BadInput, match="given back"):
        _ = view.address


def test_a_driver_without_graphs_is_told():
    class Old:
        cuGetErrorName = None

    class Stream:
        handle = 1

    with pytest.raises(DriverError, match="this CUDA driver has no cuStreamBeginCapture_v2"):
        Driver(Old()).capture(Stream(), lambda: None)
