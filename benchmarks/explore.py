r"""Measure the page of `nuclr explore` in a browser, beside libraries that could draw its map.

python -m pip install plotly bokeh altair vl-convert-python    # in an environment beside nuclr's
npm install deck.gl regl-scatterplot esbuild
npx esbuild node_modules/regl-scatterplot/dist/regl-scatterplot.esm.js --bundle --minify --format=iife \
    --global-name=regl --outfile=regl.js
python benchmarks/explore.py --npm . --ours

Every page shows 60,000 units. It is opened in headless Chromium, and its map is dragged with a mouse. The
table has the size, the seconds until everything is drawn, the drawn frames and the longest gap between two of
them, and the controls that a keyboard and a screen reader find. Needs chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import base64
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import ask, show, started

CLASSES = 10
COLOURS = ["#332288", "#DDCC77", "#88CCEE", "#882255", "#44AA99"]
COLOURS += ["#CC6677", "#117733", "#AA4499", "#999933", "#661100"]
# Runs before the page's scripts, and records the frames in which the page draws.
WATCH = """
(() => {
    let drawn = false;
    window.__drawn = [];
    const watch = (kind, names) => names.forEach(name => {
        const own = kind && kind.prototype[name];
        if (own) kind.prototype[name] = function (...rest) { drawn = true; return own.apply(this, rest); };
    });
    watch(window.WebGLRenderingContext, ["drawArrays", "drawElements"]);
    watch(window.WebGL2RenderingContext,
        ["drawArrays", "drawElements", "drawArraysInstanced", "drawElementsInstanced"]);
    watch(window.CanvasRenderingContext2D, ["fill", "stroke", "drawImage", "fillRect", "putImageData"]);
    const own = WebGLRenderingContext.prototype.getExtension;
    WebGLRenderingContext.prototype.getExtension = function (name) {
        const found = own.call(this, name);
        if (found && name === "ANGLE_instanced_arrays" && !found.__watched) {
            for (const call of ["drawArraysInstancedANGLE", "drawElementsInstancedANGLE"]) {
                const draws = found[call].bind(found);
                found[call] = (...rest) => { drawn = true; return draws(...rest); };
            }
            found.__watched = true;
        }
        return found;
    };
    const tick = now => {
        if (drawn) window.__drawn.push(now);
        drawn = false;
        requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
})();
"""
# True when something was drawn and the page is idle.
OPEN = """
const done = arguments[arguments.length - 1];
let last = performance.now(), calm = 0;
const tick = now => {
    calm = now - last < 60 ? calm + 1 : 0;
    last = now;
    if (window.__drawn.length && calm >= 3) done(window.__drawn.filter(t => t < now).at(-1));
    else requestAnimationFrame(tick);
};
requestAnimationFrame(tick);
"""
FOCUSABLE = """
const found = [];
const walk = root => root.querySelectorAll("*").forEach(node => {
    if (node.tabIndex >= 0 && !node.disabled && node.getClientRects().length) found.push(node);
    if (node.shadowRoot) walk(node.shadowRoot);
});
walk(document);
return found.length;
"""
CENTRE = """
const canvas = [...(function* all(root) {
    for (const node of root.querySelectorAll("*")) {
        if (node.tagName === "CANVAS" && node.getClientRects().length) yield node;
        if (node.shadowRoot) yield* all(node.shadowRoot);
    }
})(document)].sort((a, b) => b.clientWidth * b.clientHeight - a.clientWidth * a.clientHeight)[0];
const box = canvas.getBoundingClientRect();
return [box.x + box.width / 2, box.y + box.height / 2];
"""


def points(units: int) -> tuple[np.ndarray, np.ndarray]:
    """Return clustered units: positions ``(unit, 2)`` and classes."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, CLASSES, units)
    return (rng.normal(0, 4, (CLASSES, 2))[kind] + rng.standard_normal((units, 2))).astype(np.float32), kind


def in_plotly(xy: np.ndarray, kind: np.ndarray) -> str:
    """Draw with plotly's scattergl, one trace per class so that the legend filters."""
    from plotly.graph_objects import Figure, Scattergl

    marker = {"size": 4}
    traces = [
        Scattergl(x=xy[kind == k, 0], y=xy[kind == k, 1], mode="markers", name=f"class {k}", marker=marker)
        for k in range(CLASSES)
    ]
    return Figure(traces, {"dragmode": "pan", "width": 900, "height": 640}).to_html(include_plotlyjs=True)


def in_bokeh(xy: np.ndarray, kind: np.ndarray, output_backend: str = "webgl") -> str:
    """Draw with Bokeh, whose canvas draws only a part of the units during dragging."""
    from bokeh.embed import file_html
    from bokeh.plotting import figure
    from bokeh.resources import INLINE

    tools = "pan,wheel_zoom,lasso_select,hover"
    plot = figure(width=900, height=640, output_backend=output_backend, tools=tools)
    plot.scatter(xy[:, 0], xy[:, 1], color=np.array(COLOURS)[kind], size=4, line_color=None)
    return file_html(plot, INLINE, "units")


def in_vega(xy: np.ndarray, kind: np.ndarray) -> str:
    """Draw with Vega-Lite on a canvas; it has no maintained WebGL renderer."""
    import altair
    import pandas as pd

    altair.data_transformers.disable_max_rows()
    table = pd.DataFrame({"x": xy[:, 0], "y": xy[:, 1], "kind": [f"class {k}" for k in kind]})
    chart = altair.Chart(table).mark_circle(size=12).encode(x="x", y="y", color="kind", tooltip="kind")
    return chart.properties(width=900, height=640).interactive().to_html(inline=True)


def _with_script(script: Path, element: str, program: str) -> str:
    """Write a page from a library's file and a script with base64 arrays."""
    library = script.read_text().replace("</script", r"<\/script")
    decode = "const bytes = text => Uint8Array.from(atob(text), sign => sign.charCodeAt(0)).buffer;"
    return (
        f'<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">{element}<script>{library}</script>'
        f"<script>{decode}{program}</script>"
    )


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def in_deck(xy: np.ndarray, kind: np.ndarray, npm: Path) -> str:
    """Draw with deck.gl, which reads the arrays directly."""
    rgb = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in COLOURS], np.uint8)[kind]
    program = f"""
        const xy = new Float32Array(bytes("{_base64(xy)}")), rgb = new Uint8Array(bytes("{_base64(rgb)}"));
        const attributes = {{getPosition: {{value: xy, size: 2}}}};
        attributes.getFillColor = {{value: rgb, size: 3, type: "unorm8"}};
        const data = {{length: {len(xy)}, attributes}};
        new deck.Deck({{parent: document.getElementById("map"), views: new deck.OrthographicView(),
            controller: true, initialViewState: {{target: [0, 0, 0], zoom: 5}},
            layers: [new deck.ScatterplotLayer({{id: "u", data, getRadius: 2, radiusUnits: "pixels"}})]}});
    """
    element = '<div id="map" style="width:900px;height:640px;position:relative"></div>'
    return _with_script(npm / "node_modules" / "deck.gl" / "dist.min.js", element, program)


def in_regl(xy: np.ndarray, kind: np.ndarray, npm: Path) -> str:
    """Draw with regl-scatterplot, a library for scatter plots only."""
    scaled = (xy / np.abs(xy).max()).astype(np.float32)
    program = f"""
        const x = new Float32Array(bytes("{_base64(scaled[:, 0])}"));
        const y = new Float32Array(bytes("{_base64(scaled[:, 1])}"));
        const valueA = Float32Array.from(new Uint8Array(bytes("{_base64(kind.astype(np.uint8))}")));
        const canvas = document.getElementById("map");
        regl.default({{canvas, width: 900, height: 640, pointSize: 4, colorBy: "valueA",
            pointColor: {COLOURS}}}).draw({{x, y, valueA}});
    """
    return _with_script(
        npm / "regl.js", '<canvas id="map" style="width:900px;height:640px"></canvas>', program
    )


def ours(folder: Path, units: int) -> Path:
    """Write the page of `nuclr explore`, with two maps."""
    from explored import many, write_units

    from nuclr.report.pages.explore import write_explore

    table = many(units)
    one, other = (
        write_units(folder / f"{name}.parquet", table, 32, seed)
        for seed, name in enumerate(("trained", "untrained"))
    )
    write_explore([one], folder / "explore.html", beside=[other])
    return folder / "explore.html"


def pages_of(libraries: list[str], npm: Path | None, units: int, folder: Path) -> dict[str, Path]:
    """Write a page with each library that is installed."""
    draw: dict[str, Callable[[np.ndarray, np.ndarray], str]] = {
        "plotly (scattergl)": in_plotly,
        "bokeh (webgl)": in_bokeh,
        "bokeh (canvas)": partial(in_bokeh, output_backend="canvas"),
        "vega-lite (canvas)": in_vega,
    }
    if npm is not None:
        draw |= {"deck.gl": partial(in_deck, npm=npm), "regl-scatterplot": partial(in_regl, npm=npm)}
    pages = {}
    for name, one in draw.items():
        if any(name.startswith(wanted) for wanted in libraries):
            pages[name] = folder / f"{len(pages)}.html"
            pages[name].write_text(one(*points(units)))
    return pages


def measure(session: str, page: Path, seconds: float) -> dict[str, Any]:
    """Open a page, drag its map, and return the measurements."""
    added = _cdp(session, "Page.addScriptToEvaluateOnNewDocument", source=WATCH)
    try:
        return _measured(session, page, seconds)
    finally:
        _cdp(session, "Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])
        ask(session, "url", url="about:blank")


def _cdp(session: str, command: str, **params: Any) -> Any:
    return ask(session, "goog/cdp/execute", cmd=command, params=params)


def _measured(session: str, page: Path, seconds: float) -> dict[str, Any]:
    cdp = partial(_cdp, session)

    def run(script: str) -> Any:
        return ask(session, "execute/sync", script=script, args=[])

    show(session, page.absolute().as_uri(), 1280, "light")
    opened = ask(session, "execute/async", script=OPEN, args=[])
    x, y = run(CENTRE)
    mouse = {"button": "left", "buttons": 1, "clickCount": 1}
    cdp("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **mouse)
    run("window.__drawn.length = 0")
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        turn = 2 * math.pi * passed / 2
        moved = {"x": x + 120 * math.sin(turn), "y": y + 80 * (1 - math.cos(turn))}
        cdp("Input.dispatchMouseEvent", type="mouseMoved", **moved, **mouse)
    drawn = run("return window.__drawn")
    cdp("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, **mouse)
    gaps = np.diff(drawn) if len(drawn) > 1 else np.array([np.nan])
    nodes = cdp("Accessibility.getFullAXTree")["nodes"]
    named = [n for n in nodes if not n["ignored"] and n.get("name", {}).get("value", "").strip()]
    roles = {
        "button",
        "checkbox",
        "combobox",
        "searchbox",
        "textbox",
        "slider",
        "link",
        "application",
        "image",
    }
    return {
        "megabytes": page.stat().st_size / 1e6,
        "open_s": opened / 1000,
        "frames": len(drawn) / seconds,
        "median_ms": float(np.median(gaps)),
        "longest_ms": float(np.max(gaps)),
        "tab_stops": run(FOCUSABLE),
        "named": sum(n["role"]["value"] in roles for n in named),
    }


def main() -> None:
    """Measure the requested pages, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--libraries", nargs="*", default=["plotly", "bokeh", "vega", "deck", "regl"])
    parser.add_argument("--npm", type=Path, help="folder with deck.gl and regl-scatterplot, as above")
    parser.add_argument(
        "--ours", action="store_true", help="also the page of `nuclr explore` (minutes to make)"
    )
    parser.add_argument("--page", type=Path, action="append", default=[], help="also a page that is there")
    parser.add_argument("--units", type=int, default=60_000)
    parser.add_argument("--seconds", type=float, default=4, help="how long a map is dragged about")
    parser.add_argument("--rounds", type=int, default=3, help="medians over so many are shown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, started() as session:
        pages = pages_of(options.libraries, options.npm, options.units, Path(name))
        pages |= {path.name: path for path in options.page}
        if options.ours:
            pages["nuclr explore, two maps"] = ours(Path(name), options.units)
        ask(session, "timeouts", script=50_000)
        print(
            "| page | MB | drawn after, s | frames/s | median gap, ms | longest gap, ms | tab stops | named |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for called, page in pages.items():
            try:
                rounds = [measure(session, page, options.seconds) for _ in range(options.rounds)]
            except AssertionError:
                print(f"| {called} | {page.stat().st_size / 1e6:.1f} | not in 50 s | | | | | |", flush=True)
                continue
            m = {key: statistics.median(found[key] for found in rounds) for key in rounds[0]}
            print(
                f"| {called} | {m['megabytes']:.1f} | {m['open_s']:.1f} | {m['frames']:.0f} | "
                f"{m['median_ms']:.0f} | {m['longest_ms']:.0f} | {m['tab_stops']:.0f} | {m['named']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
