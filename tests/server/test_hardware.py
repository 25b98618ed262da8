"""What the server tells of the hardware, to whom, and what it does when that is strained."""

import asyncio
import threading
import time

import httpx
import pytest
from support.fake_nvml import GPU, NVML
from support.gpu_pool import Hardware, gpu_planner

from llama_pajamas_run_core.hardware import nvidia
from llama_pajamas_run_core.pool import ModelPool, Placement
from llama_pajamas_run_core.server.app import create_app
from llama_pajamas_run_core.server.settings import Settings
from llama_pajamas_run_core.testing.fakes import fake_catalogue, fake_planner

pytestmark = pytest.mark.anyio
GB = 10**9


async def ready(client, name="hardware"):
    for _ in range(200):
        if (await client.get("/health")).json().get(name) is not None:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("there was no reading")


async def test_health_lists_the_last_reading_and_the_warnings(make_client):
    hardware = Hardware(GPU("GPU-a", 100 * GB, 95 * GB, temperature=91, power=None))
    client = await make_client(monitor=hardware.monitor)
    await ready(client)
    reply = (await client.get("/health")).json()
    assert reply["status"] == "ok"
    assert [(one["kind"], one["device"]) for one in reply["warnings"]] == [
        ("memory", "GPU 0"),
        ("temperature", "GPU 0"),
    ]
    assert reply["warnings"][1]["message"] == "91 degrees Celsius, past 85"
    assert 0 <= reply["hardware"]["age"] < 10
    (gpu,) = reply["hardware"]["gpus"]
    assert (gpu["uuid"], gpu["memory_used"], gpu["temperature"]) == ("GPU-a", 95 * GB, 91.0)
    assert gpu["missing"] == {"power": "NVML error 3"}
    assert reply["hardware"]["host"]["memory"] == 1000


async def test_who_has_no_key_is_told_no_more_than_before(make_client):
    hardware = Hardware(GPU("GPU-a", 100 * GB, 95 * GB))
    client = await make_client(Settings(api_keys=("secret",)), monitor=hardware.monitor)
    key = {"Authorization": "Bearer secret"}
    for _ in range(200):
        if (await client.get("/health", headers=key)).json()["hardware"]:
            break
        await asyncio.sleep(0.01)
    assert (await client.get("/health", headers=key)).json()["warnings"]
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
        response = await client.get("/health", headers=headers)
        assert response.status_code == 200
        assert set(response.json()) == {"status", "version", "uptime", "loaded"}


async def test_gauges_for_prometheus(make_client):
    gpu = GPU("GPU-a", 100 * GB, 95 * GB, utilization=73, temperature=91, power_limit=None, throttling=0x44)
    client = await make_client(monitor=Hardware(gpu).monitor)
    await ready(client)
    text = (await client.get("/metrics")).text
    lines = text.splitlines()
    labels = 'gpu="0",uuid="GPU-a"'
    for line in (
        f"llama_pajamas_gpu_memory_used_bytes{{{labels}}} 95000000000",
        f"llama_pajamas_gpu_utilization_ratio{{{labels}}} 0.73",
        f"llama_pajamas_gpu_temperature_celsius{{{labels}}} 91.0",
        f"llama_pajamas_gpu_power_watts{{{labels}}} 100.0",
        f"llama_pajamas_gpu_clock_hertz{{{labels}}} 1980000000.0",
        f'llama_pajamas_gpu_throttled{{{labels},reason="thermal_hardware"}} 1.0',
        "llama_pajamas_host_memory_bytes 1000",
        "# TYPE llama_pajamas_host_utilization_ratio gauge",
        'llama_pajamas_hardware_warnings{kind="throttling"} 1.0',
        'llama_pajamas_hardware_warnings{kind="temperature"} 1.0',
    ):
        assert line in lines
    assert "power_limit" not in text  # what is not known has no sample


async def test_without_memory_a_request_for_a_model_gets_503_and_when_to_come_again(make_client):
    hardware = Hardware(host=0.95)
    client = await make_client(monitor=hardware.monitor)
    await ready(client)
    body = {"model": "echo", "prompt": "a b"}
    response = await client.post("/v1/completions", json=body)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "10"
    assert "x-should-retry" not in response.headers
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "overloaded")
    assert "too little memory" in error["message"]
    hardware.host = 0.5
    await asyncio.to_thread(hardware.look)
    assert (await client.post("/v1/completions", json=body)).status_code == 200
    hardware.host = 0.95
    await asyncio.to_thread(hardware.look)
    assert (await client.post("/v1/completions", json=body)).status_code == 200  # it is loaded


async def test_a_hot_gpu_sends_away_those_who_would_wait(make_client):
    hardware = Hardware(GPU("GPU-a", 100 * GB, 0))
    gpus, _ = nvidia.ask(NVML(*hardware.gpus), {})
    planner = gpu_planner({"echo": {"pace": 0.02}})
    client = await make_client(monitor=hardware.monitor, planner=planner, placement=Placement(gpus))
    await ready(client)
    body = {"model": "echo", "prompt": "a " * 20}
    assert (await client.post("/v1/completions", json=body)).status_code == 200
    hardware.gpus[0].throttling = 0x20
    await asyncio.to_thread(hardware.look)
    replies = await asyncio.gather(*(client.post("/v1/completions", json=body) for _ in range(3)))
    assert sorted(reply.status_code for reply in replies) == [200, 503, 503]
    refused = next(reply for reply in replies if reply.status_code == 503)
    assert refused.headers["retry-after"] == "10"
    assert "GPU 0 is too hot" in refused.json()["error"]["message"]


async def test_preloading_waits_until_there_is_memory(make_client, monkeypatch):
    monkeypatch.setattr("llama_pajamas_run_core.pool.admission.RETRY_AFTER", 0.02)
    hardware = Hardware(host=0.95)
    hardware.look()
    client = await make_client(Settings(preload=("echo",)), monitor=hardware.monitor)
    await asyncio.sleep(0.05)
    response = await client.get("/ready")
    assert response.status_code == 503
    assert "too little memory" in response.json()["error"]["message"]
    hardware.host = 0.1
    await asyncio.to_thread(hardware.look)
    for _ in range(200):
        if (await client.get("/ready")).status_code == 200:
            break
        await asyncio.sleep(0.01)
    assert (await client.get("/ready")).json() == {"status": "ready"}


async def test_a_driver_that_hangs_holds_up_neither_health_nor_the_end(tmp_path):
    hardware = Hardware(GPU())
    released = threading.Event()
    hardware.sampler._given.nvmlDeviceGetUtilizationRates = lambda handle: released.wait(20) and None
    hardware.monitor.stop = lambda timeout=0.05, stop=hardware.monitor.stop: stop(timeout)
    app = create_app(pool=ModelPool(fake_catalogue(tmp_path), fake_planner()), monitor=hardware.monitor)
    start = time.monotonic()
    async with app.router.lifespan_context(app):
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")
        assert (await client.get("/health")).json()["hardware"] is None
        assert "gpu_memory" not in (await client.get("/metrics")).text
        await client.aclose()
    assert time.monotonic() - start < 5
    released.set()


async def test_the_monitor_ends_with_the_application(tmp_path):
    def monitors():
        return {thread for thread in threading.enumerate() if thread.name == "hardware-monitor"}

    others = monitors()  # of servers that several tests share
    app = create_app(pool=ModelPool(fake_catalogue(tmp_path), fake_planner()), settings=Settings(watch_interval=0.1))
    async with app.router.lifespan_context(app):
        assert len(monitors() - others) == 1
    assert monitors() <= others
    assert app.state.services.monitor.interval == 0.1
