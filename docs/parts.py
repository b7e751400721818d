"""Writes the parts of pages that are generated from the package: ``python docs/parts.py``."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

from nuclr.config import Config
from nuclr.data.formats import FORMATS


def formats() -> str:
    """Return a table of all formats of recordings, from the package's own table."""
    rows = [
        f"| {re.sub('^an? ', '', form.name)} | {form.known_by} | {form.animal} | {form.labels} |"
        for form in FORMATS
    ]
    head = ["| format | recognised by | animal | labels |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])


def reference() -> str:
    """Return tables of all keys of the configuration, from their descriptions."""
    schema = Config.model_json_schema()
    top, lines = schema["properties"], []
    plain = {name: one for name, one in top.items() if "$ref" not in one}
    lines += ["A list of one item can be written as the item alone, for example `sorter.keep: good`.", ""]
    lines += ["## Top level", "", *table(plain)]
    for name, top_one in top.items():
        if "$ref" in top_one:
            section = schema["$defs"][top_one["$ref"].rpartition("/")[2]]
            lines += ["", f"## {name}", "", section.get("description", ""), "", *table(section["properties"])]
            for key, one in section["properties"].items():
                for found in dict.fromkeys(re.findall(r"#/\$defs/(\w+)", json.dumps(one))):
                    item = next(way for way in schema["$defs"][found]["anyOf"] if "properties" in way)
                    said = f"Each of `{name}.{key}`: {item['description']}"
                    lines += ["", said, "", *table(item["properties"])]
    return "\n".join(lines)


def table(properties: dict[str, Any]) -> list[str]:
    """Return a table with the type, the default and the description of each key."""
    rows = [
        f"| `{name}` | {kind(one)} | `{json.dumps(one['default']) if 'default' in one else ''}` "
        f"| {one.get('description', '').replace('|', chr(92) + '|')} |"
        for name, one in properties.items()
    ]
    return [
        "| key | type | default | description |",
        "| --- | --- | --- | --- |",
        *(row.replace("``", "") for row in rows),
    ]


def kind(one: dict[str, Any]) -> str:
    """Return the type of a key as text."""
    if "anyOf" in one:
        ways = list(dict.fromkeys(kind(each) for each in one["anyOf"]))
        # One item stands for a list of it in every key, as the page says.
        return " or ".join(way for way in ways if f"list of {way}" not in ways)
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    if "const" in one:
        return f"`{one['const']}`"
    if "$ref" in one:
        return one["$ref"].rpartition("/")[2].lower()
    if one.get("type") == "array":
        return f"list of {kind(one['items'])}" if one.get("items") else "list"
    names = {
        "integer": "integer",
        "number": "number",
        "string": "text",
        "boolean": "true or false",
        "object": "mapping",
    }
    text = names.get(one.get("type", ""), one.get("type", ""))
    limits = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    said = [f"{words} {one[key]:g}" for key, words in limits.items() if key in one]
    return f"{text}, {', '.join(said)}" if said else text


DOCS = Path(__file__).parent
CONFIG = DOCS.parent / "config"
DATA_SETS = ("allen_visual_coding", "bugeon_2022", "ibl_brain_wide_map", "steinmetz_2019")
KEYS = ("<!-- keys: made from nuclr.config -->", "<!-- end of keys -->", reference)


def settings(name: str) -> str:
    """Return the configuration of a data set as a block."""
    return f"```yaml\n{(CONFIG / f'{name}.yaml').read_text()}```"


# Generated parts are between two marks.
PAGES = {
    DOCS / "own_recordings.md": (
        "<!-- formats: made from the table in nuclr.data.formats -->",
        "<!-- end of formats -->",
        formats,
    ),
    CONFIG / "README.md": KEYS,
    DOCS / "configuration.md": KEYS,
    **{
        DOCS / "datasets" / f"{name}.md": (
            f"<!-- settings: made from config/{name}.yaml -->",
            "<!-- end of settings -->",
            partial(settings, name),
        )
        for name in DATA_SETS
    },
}


def made_anew(page: Path) -> str:
    """Return one of ``PAGES`` with its generated part up to date."""
    begin, end, part = PAGES[page]
    before, _, rest = page.read_text().partition(begin)
    return f"{before}{begin}\n{part()}\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(made_anew(page))
