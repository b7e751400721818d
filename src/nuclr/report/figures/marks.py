"""Texts with exact numbers for the marks of a figure, as ``<title>`` elements in its svg.

Every browser shows the title of a mark when the pointer rests on it. The script of the report shows it
immediately, and also makes it accessible from the keyboard.
"""

from __future__ import annotations

import re
from typing import Literal
from xml.etree import ElementTree

from matplotlib.artist import Artist

# Marks of single seeds can be hidden on the page, so that only the mean over seeds is visible.
Kind = Literal["seed", "mean", "label"]

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
# matplotlib writes the id of an artist (gid) into the svg, so the text of a mark is stored in its id. Line
# breaks, which attributes may not contain, are replaced by LINE_SEPARATOR.
PREFIX = "mark:"
LINE_SEPARATOR = "\u2028"
# Characters that XML cannot contain.
UNWRITABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Elements of a figure. A page leaves out all others: scripts, and styles, which would apply to all of it.
DRAWN = {
    f"{{{SVG}}}{name}"
    for name in ("svg", "g", "defs", "clipPath", "path", "use", "rect", "image", "text", "tspan", "title")
}


def mark(artist: Artist, text: str, kind: Kind = "mean") -> None:
    """Set the text that is shown when the pointer is on an artist."""
    artist.set_gid(f"{PREFIX}{kind}:{text}".replace("\n", LINE_SEPARATOR))


def with_titles(svg: str) -> str:
    """Return an svg in which the texts of :func:`mark` are ``<title>`` elements, and their kinds classes."""
    root = _parsed(UNWRITABLE.sub("\ufffd", svg))
    for group in root.iter(f"{{{SVG}}}g"):
        if group.get("id", "").startswith(PREFIX):
            _, kind, text = group.attrib.pop("id").split(":", 2)
            group.set("class", f"mark {kind}")
            title = ElementTree.Element(f"{{{SVG}}}title")
            title.text = text.replace(LINE_SEPARATOR, "\n")
            group.insert(0, title)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def inlined(svg: str, name: str, description: str) -> str:
    """Prepare an svg from :func:`with_titles` for a page with several: scalable, and with unique ids.

    Parameters
    ----------
    svg
        Content of the svg file.
    name
        Prefix of all ids, unique on the page.
    description
        Description of the figure for screen readers.
    """
    root = _parsed(svg)
    for element in list(root.iter()):
        for child in list(element):
            if child.tag not in DRAWN:
                element.remove(child)
        for attribute in [name for name in element.attrib if name.lower().startswith("on")]:
            del element.attrib[attribute]
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
