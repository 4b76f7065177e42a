#!/usr/bin/env python3
"""Tables of what peers.py measured, in Markdown, and its chart: from `results.json` into the same folder, or with
`--document` into docs/performance.md, between its marks, and docs/performance.svg.
"""

import argparse
import json
import math
import statistics
from pathlib import Path

import chart
from install import PLACE, ROOT
from systems import SYSTEMS

MARKS = "<!-- tables -->", "<!-- end of tables -->"
KILN = "kiln"
PEERS = [system for system in SYSTEMS if system != KILN]
NOTHING = "–"

# Models that are another one in another form: together they count once in a mean.
FORMS = {"silero-vad-ifless": "silero-vad", "silero-vad-half": "silero-vad", "minilm-1": "minilm"}

Cells = dict[tuple[str, str, int], dict]


def median(cell: dict | None, figure: str) -> float | None:
    """Of a figure over the turns; nothing if the system does not have it or could not run the model."""
    if cell is None or cell["error"]:
        return None
    values = [turn.get(figure) for turn in cell["turns"]]
    values = [value["median"] if isinstance(value, dict) else value for value in values]
    return None if None in values else statistics.median(values)


def mean(values: list[float]) -> float | None:
    """The geometric one."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def number(value: float | None) -> str:
    """Three digits, or all before the point."""
    if value is None:
        return NOTHING
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}" if 0 < value < 1000 else f"{value:,.0f}"


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def best(cells: Cells, model: str, threads: int) -> float | None:
    """The latency of the fastest peer."""
    found = [median(cells.get((model, peer, threads)), "latency_ms") for peer in PEERS]
    return min((latency for latency in found if latency), default=None)


def ratios(cells: Cells, models: list[str], threads: int, peer: str | None) -> list[float]:
    """How many times as fast as a peer Kiln is, or as the fastest one, for each model that both run; forms of one
    model are one, with their mean."""
    found: dict[str, list[float]] = {}
    for model in models:
        ours = median(cells.get((model, KILN, threads)), "latency_ms")
        theirs = median(cells.get((model, peer, threads)), "latency_ms") if peer else best(cells, model, threads)
        if ours and theirs:
            found.setdefault(FORMS.get(model, model), []).append(theirs / ours)
    return [ratio for forms in found.values() if (ratio := mean(forms))]


def latencies(cells: Cells, models: list[str], systems: list[str], threads: int) -> str:
    rows = []
    for model in models:
        found = {system: median(cells.get((model, system, threads)), "latency_ms") for system in systems}
        fastest = min((latency for latency in found.values() if latency), default=None)
        mark = lambda latency: f"**{number(latency)}**" if latency and latency == fastest else number(latency)
        own = ratios(cells, [model], threads, None)
        rows.append([model, *(mark(found[system]) for system in systems), number(own[0] if own else None)])
    over = [mean(ratios(cells, models, threads, peer)) for peer in systems if peer != KILN]
    total = number(mean(ratios(cells, models, threads, None)))
    rows.append(["*Kiln is … times as fast*", "", *(f"*{number(ratio)}*" for ratio in over), f"*{total}*"])
    heads = ["model", *(SYSTEMS[system].title for system in systems), "best peer ÷ Kiln"]
    counts = [len(ratios(cells, models, threads, peer)) for peer in systems if peer != KILN]
    forms = ", ".join(f"{form} with {model}" for form, model in FORMS.items())
    note = (f"The last line has geometric means, over the {', '.join(map(str, counts))} models that both ran, where "
            f"forms of one model are one ({forms}).")
    return f"{table(heads, rows)}\n\n{note}"


def preparation(cells: Cells, models: list[str], systems: list[str], threads: int) -> str:
    columns = [(system, figure) for system in systems for figure in ("compile_ms", "load_ms")
               if figure == "load_ms" or SYSTEMS[system].compiles]
    rows = [[model, *(number(median(cells.get((model, system, threads)), figure)) for system, figure in columns)]
            for model in models]
    return table(["model", *(f"{SYSTEMS[system].title}, {figure[:-3]}" for system, figure in columns)], rows)


def memory(cells: Cells, models: list[str], systems: list[str], threads: int) -> str:
    def megabytes(model: str, system: str, figure: str) -> float | None:
        value = median(cells.get((model, system, threads)), figure)
        return value and value / 1e6

    def cell(model: str, system: str) -> str:
        peak, empty = (megabytes(model, system, figure) for figure in ("peak_rss_bytes", "empty_rss_bytes"))
        return NOTHING if peak is None else f"{number(peak)} ({number(peak - empty)})" if empty else number(peak)

    rows = [[model, *(cell(model, system) for system in systems)] for model in models]
    empty = []
    for system in systems:
        found = [value for model in models if (value := megabytes(model, system, "empty_rss_bytes"))]
        empty.append(f"*{number(min(found, default=None))}*")
    rows.append(["*before a model is loaded*", *empty])
    return table(["model", *(SYSTEMS[system].title for system in systems)], rows)


def accuracy(cells: Cells, models: list[str], systems: list[str]) -> str:
    rows = []
    for system in systems:
        found = [(cell["difference"], model) for (model, of, _), cell in cells.items()
                 if of == system and not cell["error"] and cell["difference"] is not None]
        most, model = max(found, default=(0.0, NOTHING))
        middle = statistics.median(difference for difference, _ in found) if found else 0.0
        rows.append([SYSTEMS[system].title, f"{middle:.1e}", f"{most:.1e} ({model})"])
    return table(["system", "in the middle", "at most"], rows)


def failures(cells: Cells, systems: list[str]) -> str:
    lines = []
    for system in systems:
        found: dict[str, list[str]] = {}
        for (model, of, _), cell in cells.items():
            if of == system and cell["error"] and model not in found.setdefault(cell["error"], []):
                found[cell["error"]].append(model)
        title = SYSTEMS[system].title
        lines += [f"- {title}, {', '.join(names)}: `{error.replace('`', '')}`" for error, names in found.items()]
    return "\n".join(lines) or "Every system ran every model."


def spread(cells: Cells) -> float:
    """How far the slowest turn is from the fastest, in the middle of all cells."""
    turns = [[turn["latency_ms"]["median"] for turn in cell["turns"]] for cell in cells.values() if not cell["error"]]
    return statistics.median(max(times) / min(times) - 1 for times in turns)


def about(results: dict, cells: Cells) -> str:
    machine, settings = results["machine"], results["settings"]
    versions = ", ".join(f"{title} {version}" for title, version in results["versions"].items())
    return (
        f"{versions}.\n\n{machine['processor']} ({', '.join(machine['extensions'])}), {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB, {machine['system']}; "
        f"`make peers PEERS=\"--turns {settings['turns']} --seconds {settings['seconds']:g}\"`. Between the slowest and the fastest turn of one system with one model lay "
        f"{100 * spread(cells):.0f} %, in the middle."
    )


def text(results: dict) -> str:
    cells: Cells = {(cell["model"], cell["system"], cell["threads"]): cell for cell in results["cells"]}
    models = list(dict.fromkeys(model for model, _, _ in cells))
    systems = list(dict.fromkeys(system for _, system, _ in cells))
    threads = list(dict.fromkeys(threads for _, _, threads in cells))
    of = lambda count: f"{count} thread{'s' if count > 1 else ''}"
    parts = [about(results, cells)]
    for count in threads:
        parts.append(f"## Latency, {of(count)}\n\nMilliseconds, the fastest in bold.\n\n"
                     f"{latencies(cells, models, systems, count)}")
    parts.append(f"## Before the first run\n\nMilliseconds, {of(threads[0])}.\n\n"
                 f"{preparation(cells, models, systems, threads[0])}")
    parts.append(f"## Peak memory\n\nMegabytes that were resident at most, {of(threads[0])}, and how many of them came after the "
                 f"process had started, without a model.\n\n"
                 f"{memory(cells, models, systems, threads[0])}")
    parts.append(f"## Differences\n\n{accuracy(cells, models, systems)}")
    parts.append(f"## What could not be run\n\n{failures(cells, systems)}")
    return "\n\n".join(parts)


def write(results: dict, folder: Path) -> str:
    """Writes the tables and the chart into a folder; the tables."""
    tables = text(results)
    (folder / "performance.md").write_text(tables + "\n")
    (folder / "performance.svg").write_text(chart.chart(results))
    return tables


def document(results: dict) -> None:
    file = ROOT / "docs" / "performance.md"
    before, rest = file.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    file.write_text(f"{before}{MARKS[0]}\n{text(results)}\n{MARKS[1]}{after}")
    file.with_suffix(".svg").write_text(chart.chart(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path, nargs="?", default=PLACE / "out" / "results.json")
    parser.add_argument("--document", action="store_true", help="write docs/performance.md")
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text())
    print(write(results, arguments.results.parent))
    if arguments.document:
        document(results)


if __name__ == "__main__":
    main()
