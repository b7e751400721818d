"""A real browser, asked over HTTP (W3C WebDriver): headless Chromium, where there is one."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests


@contextmanager
def started() -> Iterator[str]:
    """Start ChromeDriver; the address of a session in headless Chromium (W3C WebDriver)."""
    driver = shutil.which("chromedriver")
    if driver is None or not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no Chromium with chromedriver (Debian: chromium, chromium-driver)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                requests.get(f"{address}/status", timeout=5)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = requests.post(
            f"{address}/session", json={"capabilities": {"alwaysMatch": wanted}}, timeout=60
        ).json()
        session = f"{address}/session/{answer['value']['sessionId']}"
        yield session
        requests.delete(session, timeout=30)
    finally:
        process.kill()
        process.wait()


def ask(session: str, path: str, **body: Any) -> Any:
    answer = requests.post(f"{session}/{path}", json=body, timeout=60)
    assert answer.ok, answer.text
    return answer.json()["value"]


def show(session: str, address: str, width: int, scheme: str) -> None:
    """Open a page in a window so wide, in a light or dark scheme."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    ask(session, "goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=size)
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    ask(session, "goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params=feature)
    ask(session, "url", url=address)


def run(session: str, script: str) -> Any:
    """Run a script in the page, and return what it returns."""
    return ask(session, "execute/sync", script=script, args=[])


def opened(session: str, page: Path, width: int = 1280, scheme: str = "light") -> None:
    """Open one of the interactive pages, and wait until it is drawn."""
    show(session, page.as_uri(), width, scheme)
    ready = """
        const done = arguments[arguments.length - 1];
        const look = () => "ready" in document.body.dataset || !document.getElementById("failed").hidden
            ? requestAnimationFrame(() => requestAnimationFrame(done)) : setTimeout(look, 20);
        look();
    """
    ask(session, "execute/async", script=ready, args=[])
    assert run(session, "return document.getElementById('failed').textContent") == ""


def colours_when_resized(session: str, canvas: str) -> int:
    """Narrow a canvas, and count its colours when the browser is about to show it in its new size."""
    script = """
        const [selector, done] = arguments, canvas = document.querySelector(selector);
        let first = true;
        new ResizeObserver((_, observer) => {
            // An observer is called once when it starts to observe.
            if (first) { first = false; canvas.style.width = `${canvas.clientWidth - 40}px`; return; }
            observer.disconnect();
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            done(new Set(new Uint32Array(data.buffer)).size);
        }).observe(canvas);
    """
    return ask(session, "execute/async", script=script, args=[canvas])
