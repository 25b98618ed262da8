"""Sessions and lanes, in the flavour of each TensorRT: engines loaded, run, refused and freed."""

import threading

import numpy as np
import onnx
import onnxruntime
import pytest
from support import onnx_graphs
from support.tensorrt_stand_in import UUID, write_engine, write_plan

from llama_pajamas_run_core.errors import BadInput, InferenceError, LoadError, OutOfMemory
from llama_pajamas_run_tensorrt.engine_file import EngineRecord, checksum, remember_made_here


@pytest.fixture
def detector(tmp_path):
    return onnx_graphs.detector(tmp_path / "detector.onnx")


@pytest.fixture
def engine(stand_in, tmp_path, detector):
    return write_engine(stand_in, tmp_path / "detector.engine", detector)


@pytest.fixture
def session_class(stand_in):
    from llama_pajamas_run_tensorrt._session import Session

    return Session


def expected(graph, feeds):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, feeds), strict=True))


def pictures(count, seed=0):
    return np.random.default_rng(seed).random((count, 3, 64, 64), np.float32)


def test_arrays_in_and_out_equal_onnx_runtime(session_class, engine, detector):
    with session_class(engine) as session:
        assert [(one.name, one.shape, one.dtype) for one in session.inputs] == [
            ("images", (None, 3, 64, 64), np.float32)
        ]
        assert session.max_batch == 8
        for count in (1, 3, 8, 3, 1):
            images = pictures(count, count)
            made = session.infer({"images": images})
            np.testing.assert_array_equal(made["output0"], expected(detector, {"images": images})["output0"])


def test_a_caller_writes_into_the_input_and_reads_the_output_on_the_device(session_class, engine, detector, stand_in):
    images = pictures(2)
    with session_class(engine) as session, session.lane() as lane:
        pixels = lane.input("images", (2, 3, 64, 64))
        stand_in.cuda.memcpy_htod_async(pixels.address, images, lane.stream)
        outputs = lane.run({"images": pixels})
        assert outputs["output0"].shape == (2, 7, 64)
        found = lane.download(outputs["output0"])
        np.testing.assert_array_equal(found, expected(detector, {"images": images})["output0"])
        assert lane.input("images", (1, 3, 64, 64)).address == pixels.address
        interface = pixels.__cuda_array_interface__
        assert (interface["shape"], interface["typestr"], interface["data"][0]) == (
            (2, 3, 64, 64),
            "<f4",
            pixels.address,
        )


def test_what_is_kept_stays_on_the_device_from_step_to_step(session_class, stand_in, tmp_path):
    graph = onnx_graphs.growing(tmp_path / "step.onnx")
    path = tmp_path / "step.engine"
    model = onnx.load(graph)
    profile = {"past": [[1, 1, 4], [2, 8, 4], [4, 32, 4]], "new": [[1, 1, 4], [2, 1, 4], [4, 1, 4]]}
    path.write_bytes(write_plan(stand_in.tensorrt, model.SerializeToString(), [profile], True))
    remember_made_here(checksum(path))
    with session_class(path) as session:
        start = np.zeros((2, 1, 4), np.float32)
        past, total = start, None
        for step in range(1, 20):
            outputs = session.infer({"past": past, "new": np.full((2, 1, 4), step, np.float32)}, keep=["present"])
            past, total = outputs["present"], outputs["total"]
            assert past.shape == (2, step + 1, 4)
        np.testing.assert_array_equal(total, np.full((2, 4), sum(range(1, 20)), np.float32))
        with session.lane() as lane:
            kept = lane.download(past)
        np.testing.assert_array_equal(kept[:, :, 0], [list(range(20))] * 2)
        del past, outputs


def test_outputs_go_where_the_caller_wants_them(session_class, engine):
    with session_class(engine) as session, session.lane() as lane:
        own = lane.empty((4, 7, 64), np.float32)
        outputs = lane.run({"images": pictures(4)}, into={"output0": own})
        assert outputs["output0"].address == own.address
        fresh = lane.run({"images": pictures(4)}, fresh=["output0"])["output0"]
        again = lane.run({"images": pictures(4)}, fresh=["output0"])["output0"]
        assert len({own.address, fresh.address, again.address}) == 3
        with pytest.raises(BadInput, match="no output 'nothing'"):
            lane.run({"images": pictures(1)}, fresh=["nothing"])
        with pytest.raises(BadInput, match="needs 3,584 bytes"):
            lane.run({"images": pictures(2)}, into={"output0": lane.empty((1, 7, 8), np.float32)})


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "needs the input images as well"),
        ({"images": np.zeros((9, 3, 64, 64), np.float32)}, "A batch of 9 is past what .*engine was built for: 1 to 8"),
        ({"images": np.zeros((1, 3, 64, 60), np.float32)}, r"'images' takes \[\?, 3, 64, 64\], not \[1, 3, 64, 60\]"),
        ({"images": np.zeros((3, 64, 64), np.float32)}, r"'images' takes \[\?, 3, 64, 64\], not \[3, 64, 64\]"),
        ({"images": np.zeros((1, 3, 64, 64)), "mask": np.zeros(1)}, "no input 'mask'; it has images"),
        ({"images": np.zeros((1, 3, 64, 64), np.complex64)}, "complex64 cannot stand for one of float32"),
    ],
)  # fmt: skip
def test_wrong_inputs_name_the_limit(session_class, engine, feeds, message):
    with session_class(engine) as session:
        with pytest.raises(BadInput, match=message):
            session.infer(feeds)
        assert session.infer({"images": pictures(1)})["output0"].shape == (1, 7, 64)


def test_an_array_on_the_device_has_to_be_of_the_inputs_type(session_class, engine):
    with session_class(engine) as session, session.lane() as lane:
        wrong = lane.empty((1, 3, 64, 64), np.float16)
        with pytest.raises(BadInput, match="'images' takes float32, the array on the GPU is float16"):
            lane.run({"images": wrong})


def test_a_fixed_batch_is_named(session_class, stand_in, tmp_path):
    graph = onnx_graphs.detector(tmp_path / "two.onnx", batch=2)
    with session_class(write_engine(stand_in, tmp_path / "two.engine", graph)) as session:
        assert session.max_batch == 2
        with pytest.raises(BadInput, match="A batch of 3 is not what two.engine was built for: 2"):
            session.infer({"images": pictures(3)})
        images = pictures(2)
        np.testing.assert_array_equal(
            session.infer({"images": images})["output0"], expected(graph, {"images": images})["output0"]
        )


def test_half_precision_inputs_take_floats(session_class, stand_in, tmp_path):
    graph = onnx_graphs.detector(tmp_path / "half.onnx", half=True)
    with session_class(write_engine(stand_in, tmp_path / "half.engine", graph)) as session:
        assert session.inputs[0].dtype is np.float16
        images = pictures(2)
        made = session.infer({"images": images})["output0"]
        assert made.dtype == np.float16
        np.testing.assert_array_equal(made, expected(graph, {"images": images.astype(np.float16)})["output0"])


def test_sizes_that_only_the_run_tells(session_class, stand_in, tmp_path):
    with session_class(
        write_engine(stand_in, tmp_path / "found.engine", onnx_graphs.finding(tmp_path / "found.onnx"))
    ) as session:
        for values in ([[0, 1, 0, 2], [3, 0, 0, 0]], [[0, 0, 0, 0]], [[1, 1, 1, 1]]):
            made = session.infer({"x": np.array(values, np.float32)})["places"]
            np.testing.assert_array_equal(made, np.nonzero(np.array(values)))


def test_memory_that_runs_out_within_a_run_is_told(session_class, stand_in, tmp_path):
    path = write_engine(
        stand_in, tmp_path / "found.engine", onnx_graphs.finding(tmp_path / "found.onnx"), batch=(1, 4, 4096)
    )
    with session_class(path, memory_limit=path.stat().st_size + 100_000) as session:
        assert session.infer({"x": np.ones((1, 4), np.float32)})["places"].shape == (2, 4)
        with pytest.raises(OutOfMemory, match="would pass the limit"):
            session.infer({"x": np.ones((4096, 4), np.float32)})
        assert session.infer({"x": np.ones((2, 4), np.float32)})["places"].shape == (2, 8)


def test_lanes_run_in_several_threads_at_once(session_class, engine, detector):
    wanted = {count: expected(detector, {"images": pictures(count, count)})["output0"] for count in range(1, 9)}
    wrong = []
    together = threading.Barrier(3)
    with session_class(engine, lanes=3) as session:

        def work(count):
            with session.lane() as lane:
                together.wait(10)  # three threads are inside at once
                outputs = lane.run({"images": pictures(count, count)})
                if not np.array_equal(lane.download(outputs["output0"]), wanted[count]):
                    wrong.append(count)
            for _ in range(20):
                if not np.array_equal(session.infer({"images": pictures(count, count)})["output0"], wanted[count]):
                    wrong.append(count)

        threads = [threading.Thread(target=work, args=(count,)) for count in (1, 5, 8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_lane_by_its_number_and_again_by_itself(session_class, engine):
    with session_class(engine, lanes=2) as session:
        with session.lane(1) as lane:
            assert lane.index == 1
            with session.lane() as other:
                assert other.index == 0
            assert session.infer({"images": pictures(1)}, lane=lane)["output0"].shape == (1, 7, 64)
        with pytest.raises(BadInput, match="no lane 2; lanes are 0 to 1"):
            session.infer({"images": pictures(1)}, lane=2)
        with pytest.raises(BadInput, match="at least 1"):
            session_class(engine, lanes=0)


def test_a_lane_outside_of_its_turn_is_refused(session_class, engine):
    with session_class(engine) as session:
        with session.lane() as lane:
            pass
        with pytest.raises(Exception, match="outside of `with session.lane"):
            lane.run({"images": pictures(1)})


def test_work_that_comes_back_is_captured_and_launched(session_class, engine, detector, stand_in):
    with session_class(engine) as session:
        for turn in range(6):
            for count in (1, 4):
                images = pictures(count, turn)
                made = session.infer({"images": images})["output0"]
                np.testing.assert_array_equal(made, expected(detector, {"images": images})["output0"])
        assert stand_in.driver.graphs == 2
        # The first run of each is as it is, the second is captured beside it; four images moved the buffers once.
        assert stand_in.driver.launches == 3 + 4
        assert session.details["graphs"] == "on"
    assert stand_in.driver.graphs == 0


def test_graphs_are_bounded_and_make_room(session_class, stand_in, tmp_path, detector):
    path = write_engine(stand_in, tmp_path / "wide.engine", detector, batch=(1, 8, 32))
    with session_class(path) as session:
        for count in (*range(1, 13), 1):
            for _ in range(3):
                images = pictures(count, count)
                made = session.infer({"images": images})["output0"]
                np.testing.assert_array_equal(made, expected(detector, {"images": images})["output0"])
        assert stand_in.driver.graphs == 8


@pytest.mark.parametrize("how", ["off", "no capture", "no second context"])
def test_without_graphs_it_runs_all_the_same(session_class, stand_in, tmp_path, detector, how):
    path = write_engine(stand_in, tmp_path / "detector.engine", detector, shared=how != "no second context")
    stand_in.driver.fails = "capture" if how == "no capture" else None
    with session_class(path, graphs=how != "off") as session:
        for turn in range(4):
            images = pictures(2, turn)
            made = session.infer({"images": images})["output0"]
            np.testing.assert_array_equal(made, expected(detector, {"images": images})["output0"])
        state = session.details["graphs"]
    if how == "off":
        assert state == "off"
    elif how == "no capture":
        assert state == "off: cuStreamBeginCapture_v2: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
    elif stand_in.tensorrt.flavour == "8.6":
        assert "has been chosen by another IExecutionContext" in state
    else:
        assert state == "on"


def test_work_of_ones_own_that_cannot_be_captured_leaves_the_lane_without_graphs(session_class, engine, stand_in):
    with session_class(engine) as session, session.lane() as lane:
        pixels, found = lane.zeros((2, 3, 64, 64), np.float32), lane.empty((2, 7, 64), np.float32)

        def refused():
            raise stand_in.cuda.LogicError("cuLaunchKernel failed: operation not permitted when stream is capturing")

        done = lane.record({"images": pixels}, {"output0": found}, before=lambda: None, after=refused)
        assert done is None
        assert lane.no_graphs == "cuLaunchKernel failed: operation not permitted when stream is capturing"
        assert session.infer({"images": pictures(2)}, lane=lane)["output0"].shape == (2, 7, 64)
    assert stand_in.driver.graphs == 0


def test_a_gpu_that_fails_keeps_no_session_from_closing(session_class, engine, stand_in, monkeypatch, caplog):
    """After a fault of a kernel CUDA answers every call with an error."""
    session = session_class(engine, lanes=2)
    session.infer({"images": pictures(1)})

    def fails(*given):
        raise stand_in.cuda.LogicError("cuStreamSynchronize failed: an illegal memory access was encountered")

    with monkeypatch.context() as patch:
        patch.setattr(stand_in.cuda.Stream, "synchronize", fails)
        for lane in session._lanes:
            patch.setattr(lane._pool, "_free", fails)
        session.close()
    assert "lane=0 could not be freed: cuStreamSynchronize failed: an illegal memory access" in caplog.text
    del session, lane
    assert not list(stand_in.tensorrt.live)


def test_fifty_loads_leave_nothing_behind(session_class, engine, stand_in):
    before = None
    for _ in range(50):
        with session_class(engine, lanes=2) as session:
            for count in (1, 4, 1, 4):
                session.infer({"images": pictures(count)})
        now = (stand_in.cuda.state.allocated, stand_in.cuda.state.pinned, stand_in.driver.graphs)
        assert before is None or now == before
        before = now
    assert before == (0, 0, 0)
    del session
    assert not list(stand_in.tensorrt.live)
    session_class(engine).close()


def test_closing_waits_for_the_lanes_in_use(session_class, engine):
    session = session_class(engine)
    inside, leave, closed = threading.Event(), threading.Event(), threading.Event()

    def use():
        with session.lane() as lane:
            inside.set()
            leave.wait(10)
            lane.run({"images": pictures(1)})
            lane.synchronize()

    def close():
        session.close()
        closed.set()

    threads = [threading.Thread(target=use), threading.Thread(target=close)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    assert not closed.wait(0.1)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert closed.is_set()
    session.close()
    with pytest.raises(BadInput, match="was closed"):
        session.infer({"images": pictures(1)})


def test_memory_that_runs_out_ends_one_call_and_not_the_session(session_class, engine, detector, stand_in):
    with session_class(engine) as session:
        images = pictures(1)
        wanted = expected(detector, {"images": images})["output0"]
        np.testing.assert_array_equal(session.infer({"images": images})["output0"], wanted)
        stand_in.cuda.state.total = stand_in.cuda.state.allocated
        with pytest.raises(OutOfMemory, match="bytes more do not fit: the GPU has [0-9,]+ free of"):
            session.infer({"images": pictures(8)})
        np.testing.assert_array_equal(session.infer({"images": images})["output0"], wanted)
        stand_in.cuda.state.total = 8 << 30
        assert session.infer({"images": pictures(8)})["output0"].shape == (8, 7, 64)


def test_what_is_brought_to_the_host_is_there_before_its_memory_is_lent_again(
    session_class, engine, stand_in, monkeypatch
):
    """Also where bringing it fails half way: copies that were begun still write."""
    with session_class(engine) as session, session.lane() as lane:
        one, other = lane.zeros((8,), np.float32), lane.zeros((8,), np.float32)
        order, take = [], lane._pinned.take
        back, wait = stand_in.cuda.memcpy_dtoh_async, stand_in.cuda.Stream.synchronize
        monkeypatch.setattr(stand_in.cuda, "memcpy_dtoh_async", lambda *given: order.append("copy") or back(*given))
        monkeypatch.setattr(stand_in.cuda.Stream, "synchronize", lambda stream: order.append("wait") or wait(stream))

        def full(size):
            if order:
                raise OutOfMemory("no pinned memory")
            return take(size)

        monkeypatch.setattr(lane._pinned, "take", full)
        with pytest.raises(OutOfMemory, match="no pinned memory"):
            lane.download_all({"one": one, "other": other})
        assert order == ["copy", "wait"]


def test_what_tensorrt_said_before_is_not_told_of_a_later_error(session_class, engine, stand_in, monkeypatch):
    """It speaks of errors, as of memory, also where it then finds another way."""
    from llama_pajamas_run_tensorrt import _sdk

    with session_class(engine) as session:
        session.infer({"images": pictures(1)})
        log = _sdk.make_log()
        log.log(stand_in.tensorrt.ILogger.ERROR, "Error Code 2: OutOfMemory (no further information)")
        with session.lane() as lane:
            monkeypatch.setattr(type(lane._bound.context), "execute_async_v3", lambda context, stream: False)
            with pytest.raises(InferenceError, match=r"detector\.engine failed: TensorRT says no more") as raised:
                lane.run({"images": pictures(2)})
            assert not isinstance(raised.value, OutOfMemory)


def test_the_limit_holds_and_the_session_lives_on(session_class, engine):
    size = engine.stat().st_size
    with session_class(engine, memory_limit=size + 200_000) as session:
        assert session.infer({"images": pictures(1)})["output0"].shape == (1, 7, 64)
        with pytest.raises(OutOfMemory, match="would pass the limit of"):
            session.infer({"images": pictures(8)})
        assert session.infer({"images": pictures(1)})["output0"].shape == (1, 7, 64)
        assert session.details["memory"] <= size + 200_000
    with pytest.raises(OutOfMemory, match="past the memory_limit"):
        session_class(engine, memory_limit=100)


def test_an_engine_larger_than_the_free_memory_is_not_begun(session_class, engine, stand_in):
    stand_in.cuda.state.total = 1 << 20
    with pytest.raises(OutOfMemory, match="GPU 0 has 1,048,576 free"):
        session_class(engine)
    assert stand_in.cuda.state.allocated == 0


def test_gpus_by_number_and_uuid(session_class, engine):
    for which in (None, 0, "0", "cuda:0", UUID, UUID[:12]):
        with session_class(engine, device=which) as session:
            assert (session.device.index, session.device.uuid) == (0, UUID)
    with pytest.raises(BadInput, match="no GPU 1; there are 1"):
        session_class(engine, device=1)
    for which in ("GPU-f", "", "-1"):
        with pytest.raises(BadInput, match=f"no GPU '{which}'. GPUs: {UUID}"):
            session_class(engine, device=which)


def test_nothing_is_left_current_in_any_thread(session_class, engine, stand_in):
    with session_class(engine) as session:
        session.infer({"images": pictures(1)})
        with pytest.raises(BadInput):
            session.infer({})
        with pytest.raises(Exception, match="no currently active context"):
            stand_in.cuda.mem_get_info()


def refusals(stand_in, path, how):
    """Make an engine bad in one way; what the message says then."""
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
        return (
            LoadError,
            "was changed or cut short.*llama-pajamas export tensorrt detector.onnx --precision fp32 --batch 1:4:8",
        )
    if how == "one byte":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        return LoadError, "was changed or cut short"
    if how == "random":
        path.write_bytes(np.random.default_rng(1).bytes(5000))
        return BadInput, "is no TensorRT engine"
    if how == "empty":
        path.write_bytes(b"")
        return LoadError, "is empty"
    if how == "a few bytes":
        path.write_bytes(b"ftrt\0\0")
        return LoadError, "ends at 6 bytes"
    record = EngineRecord.read(path)
    if how == "version":
        changed = {"tensorrt": "9.3.0"}
    elif how == "gpu":
        changed = {"capability": (8, 9), "gpu": "NVIDIA GeForce RTX 4090"}
    else:
        path.with_name(path.name + ".json").write_text("{}")
        return LoadError, "damaged engine record"
    fields = {name: getattr(record, name) for name in EngineRecord.__dataclass_fields__}
    EngineRecord(**{**fields, **changed}).write(path)
    if how == "version":
        return LoadError, f"built with TensorRT 9.3.0, this is TensorRT {stand_in.tensorrt.__version__}.*Build it anew"
    return LoadError, r"compute capability 8.9 \(NVIDIA GeForce RTX 4090\), this GPU has 9.0"


@pytest.mark.parametrize(
    "how", ["truncated", "one byte", "random", "empty", "a few bytes", "version", "gpu", "record"]
)  # fmt: skip
@pytest.mark.parametrize("trust", [False, True])
def test_a_bad_engine_is_refused_before_tensorrt_sees_it(session_class, engine, stand_in, monkeypatch, how, trust):
    kind, message = refusals(stand_in, engine, how)
    monkeypatch.setattr(stand_in.tensorrt, "Runtime", None)  # would raise TypeError if it were called
    with pytest.raises(kind, match=message):
        session_class(engine, trust=trust)


def test_an_engine_of_unknown_origin_needs_trust(session_class, stand_in, tmp_path, detector, monkeypatch):
    (tmp_path / "foreign").mkdir()
    path = write_engine(stand_in, tmp_path / "foreign" / "detector.engine", detector, record=False)
    with pytest.raises(BadInput, match="an engine is code.*trust=True"):
        session_class(path)
    with session_class(path, trust=True) as session:
        assert session.infer({"images": pictures(1)})["output0"].shape == (1, 7, 64)
        assert session.record is None
    monkeypatch.setenv("LLAMA_PAJAMAS_TRUSTED_ENGINES", str(tmp_path / "foreign"))
    with session_class(path) as session:
        assert session.details["precision"] == "as built"


def test_an_engine_of_ultralytics_brings_its_metadata(session_class, stand_in, tmp_path, detector):
    plan = write_engine(stand_in, tmp_path / "bare.engine", detector, record=False).read_bytes()
    text = b'{"description": "Ultralytics YOLOv8n model", "task": "detect", "names": {"0": "red"}, "imgsz": [64, 64]}'
    path = tmp_path / "yolov8n.engine"
    path.write_bytes(len(text).to_bytes(4, "little") + text + plan)
    with session_class(path, trust=True) as session:
        assert session.metadata["task"] == "detect"
        assert session.metadata["names"] == {"0": "red"}
        assert session.infer({"images": pictures(1)})["output0"].shape == (1, 7, 64)


@pytest.mark.parametrize("how", ["truncated", "crash", "version"])
def test_a_trusted_engine_is_tried_in_another_process_first(
    session_class, stand_in, tmp_path, detector, how, monkeypatch
):
    path = write_engine(stand_in, tmp_path / "foreign.engine", detector, record=False)
    data = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(data[: len(data) - 50])
        message = "magic tag mismatch"
    elif how == "crash":
        path.write_bytes(data[:32] + b"CRASH" + data[32:])
        message = r"TensorRT crashed on it \(signal 6\)"
    else:
        data[24:26] = b"\x07\x02"
        path.write_bytes(data)
        message = r"built with TensorRT 7\.2\.\d+, this is TensorRT"
    monkeypatch.setattr(stand_in.tensorrt, "Runtime", None)
    with pytest.raises(LoadError, match=message):
        session_class(path, trust=True)
