"""``report.html``: one page without a network, pictures beside it.

The rows are data inside of the page; the browser makes a few of them at a time, so that
ten thousand open at once. Nothing of a row is ever read as markup.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from napari_fewshot.io import write_text
from napari_fewshot.session._batch_rows import (
    EXPECTED,
    FAILED,
    LEFT,
    UNCALIBRATED,
    worst_score,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PICTURES = "report"

STYLE = """
:root{color-scheme:light dark;--back:#fafafa;--card:#fff;--text:#1b1f23;--dim:#59636e;
--line:#d8dee4;--bad:#b3261e;--mid:#8a5a00;--good:#1a7f37;--accent:#00796b}
@media (prefers-color-scheme:dark){:root{--back:#14171a;--card:#1d2125;--text:#e6e9ec;
--dim:#9aa4ae;--line:#343a40;--bad:#ff8a80;--mid:#ffca6a;--good:#6fdc8c;
--accent:#4db6ac}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--text);
font:15px/1.45 system-ui,-apple-system,"Segoe UI",sans-serif}
header{padding:1.2rem 1.5rem .6rem}h1{margin:0 0 .3rem;font-size:1.35rem}
.dim{color:var(--dim)}a{color:var(--accent)}
.sums{display:flex;flex-wrap:wrap;gap:.6rem;margin:.8rem 0}
.sum{background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:.45rem .9rem}.sum b{display:block;font-size:1.25rem}
nav{position:sticky;top:0;z-index:1;background:var(--back);padding:.6rem 1.5rem;
border-bottom:1px solid var(--line);display:flex;flex-wrap:wrap;gap:.5rem}
button,select,input{font:inherit;color:inherit;background:var(--card);
border:1px solid var(--line);border-radius:6px;padding:.3rem .7rem}
button[aria-pressed=true]{border-color:var(--accent);color:var(--accent);
font-weight:600}input{flex:1;min-width:10rem;max-width:22rem}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(248px,1fr));
gap:.9rem;padding:1rem 1.5rem 3rem}
article{background:var(--card);border:1px solid var(--line);border-radius:8px;
overflow:hidden;display:flex;flex-direction:column}
.pic{background:#000;height:200px;padding:5px;display:flex;align-items:center;
justify-content:center}.pic a{display:block;width:100%}
.pic img{display:block;width:100%;height:190px;object-fit:contain}
.pic.none{background:var(--line);color:var(--dim)}
.say{padding:.55rem .75rem .7rem;overflow-wrap:anywhere;font-size:.88rem}
.say h2{font-size:.98rem;margin:0 0 .25rem}.say table{border-spacing:0;width:100%}
.say td{padding:.05rem 0;vertical-align:top}
.say td:last-child{text-align:right;font-variant-numeric:tabular-nums}
.bad{color:var(--bad)}.mid{color:var(--mid)}.good{color:var(--good)}
.warn{color:var(--mid);margin:.3rem 0 0}.fail{color:var(--bad);margin:.3rem 0 0}
"""

SCRIPT = """
const data = JSON.parse(document.getElementById("rows").textContent);
const main = document.querySelector("main"), more = document.getElementById("more");
const box = document.querySelector("input"), order = document.querySelector("select");
const STEP = 60;
let status = "", shown = [], at = 0;
function add(parent, tag, text, kind) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  parent.append(node);
  return node;
}
function card(row) {
  const node = document.createElement("article");
  const pic = add(node, "div", undefined, row.picture ? "pic" : "pic none");
  if (row.picture) {
    const img = add(add_link(pic, row.link), "img");
    img.loading = "lazy"; img.alt = "Outlines on " + row.image; img.src = row.picture;
  } else pic.textContent = "no picture";
  const say = add(node, "div", undefined, "say");
  const head = add(say, "h2");
  if (row.link) { const a = add_link(head, row.link); a.textContent = row.image; }
  else head.textContent = row.image;
  add(say, "div", row.place + row.status + row.took, "dim");
  if (row.cells.length) {
    const table = add(say, "table");
    for (const [name, value, kind] of row.cells) {
      const line = add(table, "tr");
      add(line, "td", name); add(line, "td", value, kind);
    }
  }
  if (row.warnings) add(say, "p", row.warnings, "warn");
  if (row.message) add(say, "p", row.message, "fail");
  return node;
}
function add_link(parent, link) {
  const a = add(parent, "a");
  if (link) a.href = link;
  return a;
}
function grow() {
  const end = Math.min(at + STEP, shown.length);
  const part = document.createDocumentFragment();
  for (; at < end; at++) part.append(card(shown[at]));
  main.append(part);
  more.textContent = at < shown.length ? "More below" :
    shown.length ? "" : "No image is like that.";
}
const orders = {
  worst: (a, b) => a.rank - b.rank || a.number - b.number,
  best: (a, b) => b.rank - a.rank || a.number - b.number,
  name: (a, b) => a.image < b.image ? -1 : a.image > b.image ? 1 : a.number - b.number,
  given: (a, b) => a.number - b.number,
};
function fill() {
  const word = box.value.toLowerCase();
  shown = data.filter(r => (!status || r.kind === status) &&
    (!word || r.words.includes(word)));
  shown.sort(orders[order.value]);
  main.textContent = ""; at = 0; grow();
}
for (const button of document.querySelectorAll("button")) {
  button.onclick = () => {
    status = button.dataset.kind;
    for (const b of document.querySelectorAll("button"))
      b.setAttribute("aria-pressed", b === button);
    fill();
  };
}
box.oninput = fill; order.onchange = fill;
new IntersectionObserver(found => {
  if (found[0].isIntersecting && at < shown.length) grow();
}, {rootMargin: "1200px"}).observe(more);
fill();
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>Segmentation report</title><style>{style}</style></head>
<body><header><h1>Segmentation report</h1>
<div class="dim">Worst first. The same as a table: <a href="report.csv">report.csv</a>;
how it was made: <a href="provenance.json">provenance.json</a>.</div>
<div class="sums">{sums}</div></header>
<nav>{buttons}<select aria-label="Order"><option value="worst">worst first</option>
<option value="best">best first</option><option value="name">by name</option>
<option value="given">as given</option></select>
<input type="search" placeholder="Find a name or a word" aria-label="Find"></nav>
<noscript><p style="padding:0 1.5rem">This page needs JavaScript; report.csv holds the
same.</p></noscript>
<main></main><p id="more" class="dim" style="text-align:center"></p>
<script type="application/json" id="rows">{rows}</script>
<script>{script}</script></body></html>
"""


def write_page(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the page.

    Parameters
    ----------
    path : Path
        ``OUT/report.html``; pictures are found in ``OUT/report``.
    rows : sequence of dict
        Of the report.

    Raises
    ------
    StorageError
        If it can't be written.
    """
    folder = path.parent / PICTURES
    try:
        pictures = {entry.name for entry in os.scandir(folder)}
    except OSError:
        pictures = set()
    data = [_card(n, row, pictures) for n, row in enumerate(rows)]
    # "<" must not end the script element, whatever a file is called.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = PAGE.format(
        style=STYLE, sums=_sums(rows), buttons=_buttons(data), rows=text, script=SCRIPT
    )
    write_text(path, page)


def picture_name(file: str) -> str:
    """Return the name of the picture of a labels file.

    Parameters
    ----------
    file : str
        Name of the labels file; its ending is kept, since two may differ only there.
    """
    return f"{file}.jpg"


def _card(number: int, row: Mapping[str, Any], pictures: set[str]) -> dict[str, Any]:
    """Return what the page shows of a row."""
    score, kind = worst_score(dict(row)), _kind(row)
    file = str(row.get("file", ""))
    picture = picture_name(file) if file else ""
    place = " ".join(str(row[n]) for n in ("well", "field") if row.get(n))
    words = f"{row['image']} {place} {row.get('message', '')} {row.get('warnings', '')}"
    has_file = bool(file) and kind == "done"
    return {
        "number": number,
        "image": str(row["image"]),
        "kind": kind,
        "status": str(row["status"]),
        "place": f"{place} · " if place else "",
        "took": f" · {row['seconds']} s" if row.get("seconds") else "",
        # Failures first, then by score; what has none is in between.
        "rank": -1.0 if kind == "failed" else 0.5 if score is None else score,
        "cells": _cells(row),
        "warnings": str(row.get("warnings", "")),
        "message": str(row.get("message", "")),
        "link": _link(file) if has_file else "",
        "picture": f"{PICTURES}/{_link(picture)}" if picture in pictures else "",
        "words": words.lower(),
    }


def _kind(row: Mapping[str, Any]) -> str:
    return "failed" if row["status"] in (FAILED, LEFT) else "done"


def _cells(row: Mapping[str, Any]) -> list[list[str]]:
    """Return name, value and colour of what there is to read."""
    cells = []
    for name, value in row.items():
        word, _, label = name.partition(" ")
        if name.startswith(f"{EXPECTED} "):
            number = float(value)
            kind = "bad" if number < 0.5 else "mid" if number < 0.75 else "good"
            label = name[len(EXPECTED) + 1 :]
            cells.append([f"{label}: expected Dice", str(value), kind])
        elif word == UNCALIBRATED:
            cells.append([f"{label}: score, uncalibrated", str(value), ""])
        elif word == "area" and label:
            cells.append([f"{label}: area", f"{int(value):,} px", ""])
        elif word == "size" and label:
            unit = row.get("unit") or ""
            cells.append([f"{label}: size", f"{value} {unit}".strip(), ""])
        elif name == "objects":
            cells.append(["objects", str(value), ""])
    return cells


def _link(name: str) -> str:
    return quote(os.fsencode(name))


def _sums(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the numbers on top."""
    kinds = Counter(_kind(row) for row in rows)
    scores = [
        float(value)
        for row in rows
        for name, value in row.items()
        if name.startswith(f"{EXPECTED} ")
    ]
    seconds = sum(float(row["seconds"]) for row in rows if row.get("seconds"))
    warned = sum(bool(row.get("warnings")) for row in rows)
    found = [("images", str(len(rows))), ("done", str(kinds["done"]))]
    found += [("failed", str(kinds["failed"])), ("with warnings", str(warned))]
    if scores:
        found.append(("mean expected Dice", f"{sum(scores) / len(scores):.2f}"))
    found.append(("computing", _duration(seconds)))
    return "".join(f'<div class="sum"><b>{v}</b>{n}</div>' for n, v in found)


def _buttons(data: Sequence[Mapping[str, Any]]) -> str:
    kinds = Counter(card["kind"] for card in data)
    names = [("", "all", len(data)), ("done", "done", kinds["done"])]
    names.append(("failed", "failed", kinds["failed"]))
    return "".join(
        f'<button data-kind="{kind}" aria-pressed="{str(not kind).lower()}">'
        f"{name} {count}</button>"
        for kind, name, count in names
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
