"""Federated statistics on one HTML page that needs nothing else: tables, histograms and correlations."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.errors import ConfigError
from hansa.runtime.run_folder import REPORT

if TYPE_CHECKING:
    from hansa.runtime.run import Run

Json = Mapping[str, Any]  # Any: JSON

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
"""Told apart by people who see colours differently (Okabe and Ito 2008; the last, for their yellow, Tol 2021)."""
_WIDTH, _HEIGHT = 220, 70
_MOST_LABELS = len(COLOURS)
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:90rem;padding:0 1rem;color:#1a1a1a}
h1{font-size:1.5rem;margin-bottom:.2rem} h2{font-size:1.15rem;margin-top:2rem} .quiet{color:#666;font-size:.87rem}
table{border-collapse:collapse;font-size:.87rem} th,td{padding:.25rem .6rem;text-align:right;vertical-align:middle}
th{border-bottom:2px solid #ccc;font-weight:600} tr:nth-child(even) td{background:#f6f7f8}
td:first-child,th:first-child{text-align:left} .wide{overflow-x:auto} .note{background:#fff6e0;padding:.4rem .8rem}
.bounds{color:#666;font-size:.8em;white-space:nowrap} th{white-space:nowrap}
.matrix td{min-width:2.6rem;text-align:center;background:none} details{margin:.6rem 0} summary{cursor:pointer}
"""


def report_run(run: Run, path: Path | None) -> Path:
    """The report of a run's statistics; see `Run.report`.

    Raises:
        ConfigError: There are none, or the file cannot be written.
        MissingExtra: A figure is wanted, and matplotlib is not installed.
    """
    statistics = run.statistics
    if not statistics:
        raise ConfigError("this run has made no statistics", key="run")
    target = path or run.folder / REPORT
    title = str(run.config.get("job", run.id))
    try:
        if target.suffix.lower() in (".html", ".htm"):
            write_report(statistics, target, title=title)
        else:
            from hansa.runtime.statistics_figure import write_figure

            write_figure(statistics, target, title=title)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot write {target}: {error}", key="path") from None
    return target


def write_report(statistics: Json, path: Path, *, title: str) -> None:
    """Write the page."""
    body = [f"<h1>{_text(title)}: federated statistics</h1>", _about(statistics)]
    for name, dataset in statistics["datasets"].items():
        body += _dataset(str(name), dataset)
    page = f"<!doctype html>\n<html lang=en><meta charset=utf-8><title>{_text(title)}</title><style>{_STYLE}</style>\n"
    path.write_text(page + "\n".join(body) + "\n</html>\n", encoding="utf-8")


def _about(statistics: Json) -> str:
    floors = sorted(set(statistics["min_count"].values()))
    floor = " to ".join(str(each) for each in dict.fromkeys((floors[0], floors[-1]))) if floors else "no"
    said = (
        f"<p class=quiet>{len(statistics['sites'])} sites. Groups and cells of fewer than {floor} rows stayed at their "
        "site; hatched bins are those that at least one site has not told, so they may be higher. The ends of ranges "
        "(min*, max*) were widened at random by each site. Below an estimated quantile stands the interval it surely "
        "lies in.</p>"
    )
    notes = "".join(f"<p class=note>{_text(note)}</p>" for note in statistics["notes"])
    return said + notes


def _dataset(name: str, dataset: Json) -> list[str]:
    labels = dataset["by_label"]
    rows = ", ".join(f"{_text(site)} {count or 'too few to tell'}" for site, count in dataset["rows_by_site"].items())
    parts = [f"<h2>{_text(name)}: {dataset['rows']} rows</h2><p class=quiet>{rows}</p>"]
    shown = list(labels)[:_MOST_LABELS]
    if shown:
        legend = " ".join(
            f'<span style="color:{COLOURS[i]}">&#9632; {_text(key)}</span>' for i, key in enumerate(shown)
        )
        parts.append(f"<p class=quiet>by label: {legend}</p>")
    levels = _levels(dataset["features"])
    head = "".join(f"<th>{each}" for each in ("count", "missing", "mean", "sd", "min*", "max*"))
    head += "".join(f"<th>q {level}" for level in levels)
    parts.append(f"<div class=wide><table><tr><th>feature<th>histogram{head}")
    for feature, entry in dataset["features"].items():
        drawn = [(labels[key].get(feature, {}), COLOURS[i]) for i, key in enumerate(shown)]
        parts.append(_row(feature, entry, levels, figure=f"<td>{_histogram(entry, drawn)}"))
    parts.append("</table></div>")
    for key in labels:
        rows_of = "".join(_row(feature, entry, levels) for feature, entry in labels[key].items())
        parts.append(
            f"<details><summary>label {_text(key)}</summary><div class=wide><table><tr><th>feature{head}{rows_of}"
            "</table></div></details>"
        )
    parts.append(_by_site(dataset["features"]))
    if "correlation" in dataset:
        parts.append(_matrix(dataset["correlation"]))
    return parts


def _row(feature: str, entry: Json, levels: Sequence[str], *, figure: str = "") -> str:
    numbers = [entry["mean"], entry["sd"], entry.get("min"), entry.get("max")]
    cells = [f"<td>{_text(feature)}{figure}<td>{entry['count']}<td>{entry['missing']}"]
    cells += [f"<td>{_number(number)}" for number in numbers]
    for level in levels:
        found = entry.get("quantiles", {}).get(level)
        if found is None:
            cells.append("<td>")
        else:
            bounds = f"{_number(found['low'])} … {_number(found['high'])}"
            cells.append(f"<td>{_number(found['value'])}<br><span class=bounds>{bounds}</span>")
    return "<tr>" + "".join(cells)


def _by_site(features: Json) -> str:
    sites = sorted({site for entry in features.values() for site in entry["by_site"]})
    rows = []
    for feature, entry in features.items():
        cells = []
        for site in sites:
            own = entry["by_site"].get(site)
            cells.append("<td>" if own is None else f"<td>{_number(own['mean'])} ± {_number(own['sd'])}")
        rows.append(f"<tr><td>{_text(feature)}" + "".join(cells))
    head = "".join(f"<th>{_text(site)}" for site in sites)
    table = f"<table><tr><th>feature{head}{''.join(rows)}</table>"
    return f"<details><summary>mean ± sd by site</summary><div class=wide>{table}</div></details>"


def _histogram(entry: Json, drawn: Sequence[tuple[Json, str]]) -> str:
    histogram = entry.get("histogram")
    if histogram is None:
        return ""
    edges, counts, hides = histogram["edges"], histogram["counts"], histogram["sites_that_hide"]
    top, step = max((*counts, 1)), _WIDTH / len(counts)
    title = f"{_number(edges[0])} to {_number(edges[-1])}"
    svg = (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>{title}</title>'
        '<defs><pattern id="h" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<path d="M0 0V4" stroke="#bbb" stroke-width="1.5"/></pattern></defs>'
    )
    parts = [svg]
    for index, count in enumerate(counts):
        x, height = index * step, count / top * (_HEIGHT - 2)
        if hides[index]:
            parts.append(f'<rect x="{x:.1f}" y="0" width="{step:.1f}" height="{_HEIGHT}" fill="url(#h)"/>')
        fill = "#9aa7b4" if drawn else COLOURS[0]
        parts.append(
            f'<rect x="{x:.1f}" y="{_HEIGHT - height:.1f}" width="{max(step - 0.6, 0.4):.1f}" '
            f'height="{height:.1f}" fill="{fill}"><title>{_number(edges[index])} to {_number(edges[index + 1])}: '
            f"{count}{f' (hidden at {hides[index]} sites)' if hides[index] else ''}</title></rect>"
        )
    for own, colour in drawn:
        if "histogram" in own:
            path = _steps(own["histogram"], step, top=top)
            parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    return "".join(parts) + "</svg>"


def _steps(histogram: Json, step: float, *, top: float) -> str:
    """A line over the bins, with gaps where nothing is told."""
    words, is_down = [], False
    for index, (count, hidden) in enumerate(zip(histogram["counts"], histogram["sites_that_hide"], strict=True)):
        if hidden and not count:
            is_down = False
            continue
        y = _HEIGHT - 1 - count / top * (_HEIGHT - 2)
        words.append(f"{'L' if is_down else 'M'}{index * step:.1f} {y:.1f}H{(index + 1) * step:.1f}")
        is_down = True
    return "".join(words)


def _matrix(correlation: Json) -> str:
    features = correlation["features"]
    rows = []
    for feature, values in zip(features, correlation["matrix"], strict=True):
        cells = "".join(f'<td style="background:{_shade(value)}">{_short(value)}' for value in values)
        rows.append(f"<tr><td>{_text(feature)}{cells}")
    head = "".join(f"<th>{_text(feature)}" for feature in features)
    return f"<h3>correlation</h3><div class=wide><table class=matrix><tr><th>{head}{''.join(rows)}</table></div>"


def _shade(value: float | None) -> str:
    if value is None:
        return "none"
    strength = round(abs(value) * 100)
    return f"color-mix(in srgb,{'#D55E00' if value < 0 else '#0072B2'} {strength * 0.6:.0f}%,white)"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}".replace("-0.00", "0.00")


def _levels(features: Json) -> list[str]:
    return next((list(entry["quantiles"]) for entry in features.values() if "quantiles" in entry), [])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _text(value: object) -> str:
    return html.escape(str(value))
