"""The results as bars in an SVG: for each model and system its speed, as a share of the fastest system's.

Colours are readable on light and on dark ground, since a picture in a page does not know which it is on.
"""

import statistics
from html import escape

from systems import SYSTEMS

COLOURS = {"kiln": "#e5534b", "onnxruntime": "#4184e4", "openvino": "#46954a", "iree": "#c69026", "tract": "#986ee2"}
TEXT, LINE = "#7d8590", "#7d859055"
BAR, GAP, LEFT, WIDTH, TOP, BETWEEN = 7, 9, 150, 300, 64, 40
FONT = "font-family='sans-serif' font-size='12'"


def speeds(results: dict, threads: int) -> dict[str, dict[str, float]]:
    """By model and system, in runs a millisecond."""
    found: dict[str, dict[str, float]] = {}
    for cell in results["cells"]:
        if cell["threads"] == threads:
            row = found.setdefault(cell["model"], {})
            if not cell["error"]:
                row[cell["system"]] = 1 / statistics.median(turn["latency_ms"]["median"] for turn in cell["turns"])
    return found


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f"<text x='{x:g}' y='{y:g}' {FONT} fill='{TEXT}' text-anchor='{anchor}'>{escape(words)}</text>"


def bar(x: float, y: float, width: float, system: str, says: str) -> str:
    return (f"<rect x='{x:g}' y='{y:g}' width='{width:.1f}' height='{BAR - 1}' fill='{COLOURS[system]}'>"
            f"<title>{escape(says)}</title></rect>")


def legend(systems: list[str]) -> list[str]:
    parts = []
    for place, system in enumerate(systems):
        x = LEFT + 130 * place
        parts += [bar(x, 14, 12, system, SYSTEMS[system].title), text(x + 18, 21, SYSTEMS[system].title)]
    return parts


def panel(x: float, rows: dict[str, dict[str, float]], systems: list[str], title: str, height: float) -> list[str]:
    """The bars for one number of threads."""
    parts = [text(x, TOP - 14, title)]
    for share in (0.25, 0.5, 0.75, 1):
        at = x + share * WIDTH
        parts.append(f"<line x1='{at:g}' y1='{TOP - 6}' x2='{at:g}' y2='{height - 8:g}' stroke='{LINE}'/>")
    y = TOP
    for row in rows.values():
        fastest = max(row.values(), default=1.0)
        for system in systems:
            share = row.get(system, 0) / fastest
            if share:
                says = f"{SYSTEMS[system].title}: {1 / row[system]:.3f} ms, {100 * share:.0f} %"
                parts.append(bar(x, y, share * WIDTH, system, says))
            else:
                parts.append(f"<text x='{x + 2:g}' y='{y + BAR - 1:g}' font-family='sans-serif' font-size='7' "
                             f"fill='{COLOURS[system]}'>not run</text>")
            y += BAR
        y += GAP
    return parts


def chart(results: dict) -> str:
    systems = list(dict.fromkeys(cell["system"] for cell in results["cells"]))
    threads = list(dict.fromkeys(cell["threads"] for cell in results["cells"]))
    models = list(dict.fromkeys(cell["model"] for cell in results["cells"]))
    step = len(systems) * BAR + GAP
    height, width = TOP + len(models) * step, LEFT + len(threads) * (WIDTH + BETWEEN)
    parts = [f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}'>",
             "<title>Speed of each system, as a share of the fastest one's</title>", *legend(systems)]
    parts += [text(LEFT - 10, TOP + number * step + len(systems) * BAR / 2 + 4, model, "end")
              for number, model in enumerate(models)]
    for place, count in enumerate(threads):
        title = f"{count} thread{'s' if count > 1 else ''}: speed, as a share of the fastest"
        parts += panel(LEFT + place * (WIDTH + BETWEEN), speeds(results, count), systems, title, height)
    return "\n".join([*parts, "</svg>", ""])
