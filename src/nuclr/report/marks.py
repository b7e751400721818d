"""Exact numbers of the marks of a figure, as titles inside its svg.

Every browser shows the title of a mark when the pointer rests on it. The report's page shows it at once, and
for a keyboard too.
"""

from __future__ import annotations

from typing import Literal
from xml.etree import ElementTree

from matplotlib.artist import Artist

# What is drawn for one seed can be hidden, so that the mean over seeds stands alone.
Kind = Literal["seed", "mean", "label"]

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
# matplotlib writes the id of an artist into the svg, so it carries the text that far; as an attribute, it may
# not contain line breaks.
PREFIX = "mark:"
LINE_SEPARATOR = "\u2028"


def mark(artist: Artist, text: str, kind: Kind = "mean") -> None:
    """Give an artist the text that is shown when the pointer is on it."""
    artist.set_gid(f"{PREFIX}{kind}:{text}".replace("\n", LINE_SEPARATOR))


def with_titles(svg: str) -> str:
    """Write the texts of :func:`mark` as ``<title>`` elements of an svg, and their kinds as classes."""
    root = _parsed(svg)
    for group in root.iter(f"{{{SVG}}}g"):
        if group.get("id", "").startswith(PREFIX):
            _, kind, text = group.attrib.pop("id").split(":", 2)
            group.set("class", f"mark {kind}")
            title = ElementTree.Element(f"{{{SVG}}}title")
            title.text = text.replace(LINE_SEPARATOR, "\n")
            group.insert(0, title)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def inlined(svg: str, name: str, description: str) -> str:
    """Prepare an svg of :func:`with_titles` for a page with others: it scales, and its ids are its own.

    Parameters
    ----------
    svg
        Content of the file.
    name
        Put before every id; unique on the page.
    description
        What a screen reader calls the figure.
    """
    root = _parsed(svg)
    for element in list(root.iter()):
        for child in list(element):
            if child.tag in (f"{{{SVG}}}style", f"{{{SVG}}}metadata"):
                element.remove(child)  # a style inside an svg is one of the whole page
    written = ElementTree.tostring(root, encoding="unicode")
    for element in root.iter():
        if (identity := element.get("id")) is None:
            continue
        if f"#{identity}" in written:
            element.set("id", f"{name}-{identity}")
        else:
            del element.attrib["id"]
    for element in root.iter():
        for attribute, value in element.attrib.items():
            if value.startswith("#"):
                element.set(attribute, f"#{name}-{value[1:]}")
            elif value.startswith("url(#"):
                element.set(attribute, f"url(#{name}-{value[5:]}")
    for attribute in ("width", "height"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", description)
    return ElementTree.tostring(root, encoding="unicode")


def _parsed(svg: str) -> ElementTree.Element:
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.fromstring(svg)
