"""Links in pages lead somewhere, and programs understand the commands that pages give; no network."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer
from matplotlib.image import imread
from snakemake.cli import get_argument_parser, parse_config

from nuclr.cli.app import app
from nuclr.config import load_config

REPOSITORY = Path(__file__).parents[1]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(REPOSITORY / folder / "README.md" for folder in ("config", "benchmarks")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
# What is in these was right when it was written: numbers of an earlier state are not made again.
HISTORY = {"CHANGELOG.md"}
BLOCK = re.compile(r"^ *```.*?^ *```$", re.M | re.S)
COMMAND = re.compile(
    r"^(?:\$ )?(?:\w+=\S+ )*(?:srun .*? )?((?:nuclr|snakemake|python \w+/\S+\.py|--config) .*)"
)


def named(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


pages = pytest.mark.parametrize("page", PAGES, ids=named)


def without_code(markdown: str) -> str:
    """Take out what is shown as it stands: blocks between fences, and spans."""
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "code", BLOCK.sub("", markdown))


def anchors(page: Path) -> set[str]:
    """Name the headings of a page as GitHub does; those of the site are the business of mkdocs."""
    found: list[str] = []
    text = BLOCK.sub("", page.read_text())
    for heading in re.findall(r"^#+ +(.+?) *#*$", text, re.M):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.append(f"{name}-{found.count(name)}" if name in found else name)
    return {*found, *re.findall(r"(?:id|name)=\"([^\"]+)\"", text)}


@pages
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    text = without_code(page.read_text())
    targets = re.findall(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)", text)
    targets += re.findall(r"^\[[^]]+\]: +(\S+)", text, re.M)
    targets += re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = unquote(target).partition("#")
        path = page.parent / file if file else page
        assert path.exists(), f"{target}: no such file"
        assert not anchor or anchor in anchors(path), f"{target}: no such heading"


def commands(page: Path) -> Iterator[tuple[str, bool]]:
    """Find a page's commands, and whether each is whole: in a line of its own, and not in a sentence."""
    text = page.read_text().replace("\\\n", " ")
    lines = "\n".join(BLOCK.findall(text)).splitlines()
    lines += re.findall(r"^ {3,}.+$", BLOCK.sub("", text), re.M)
    for line in lines:
        for part in re.split(r" && | \| ", line.strip()):
            if found := COMMAND.match(part):
                yield found[1], True
    for span in re.findall(r"`([^`\n]+)`", BLOCK.sub("", text)):
        if found := COMMAND.match(span):
            yield found[1], False


def rules() -> set[str]:
    files = (REPOSITORY / "workflow").rglob("*")
    text = "\n".join(path.read_text() for path in files if path.suffix == ".smk" or path.name == "Snakefile")
    return {
        *re.findall(r"^\s*rule (\w+):", text, re.M),
        *re.findall(r"^\s*use rule \w+ as (\w+)", text, re.M),
    }


def check_nuclr(words: list[str], whole: bool) -> None:
    """Let the subcommand read its options, without doing anything."""
    subcommands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    name, *options = [word for word in words if word not in ("...", "…", "--usage")]
    assert name in subcommands, f"no subcommand {name}"
    try:
        read = subcommands[name].make_context(name, options).params
    except Exception as error:
        # What is said of a command in a sentence need not be all of it.
        if whole or type(error).__name__ != "MissingParameter":
            raise
        return
    for given in read.get("config") or ():
        if str(given).startswith("{"):
            load_config(given)


def check_snakemake(words: list[str]) -> None:
    """Let Snakemake read its options; look for the targets, the profile and the keys of the configuration."""
    read = get_argument_parser().parse_args(words)
    for target in [*read.targets, *(read.until or ())]:
        assert target in rules() or "/" in target, f"no rule {target}"
    for profile in read.profile or ():
        assert (REPOSITORY / profile).is_dir(), f"no profile {profile}"
    # What Snakemake itself says only when it is about to start.
    by_itself = read.dryrun or read.unlock or read.rulegraph or read.report or read.profile
    assert by_itself or read.cores or words[0] == "--config", "Snakemake wants --cores"
    config = parse_config(read.config)
    if config.get("dataset") == "mine":
        config.setdefault("nwb", {"folder": "of the file that --configfile names"})
    preset = REPOSITORY / "config" / f"{config.get('dataset')}.yaml"
    load_config(*([preset] if preset.exists() else []), config)


@pytest.mark.parametrize("picture", sorted((REPOSITORY / "docs").rglob("*.png")), ids=named)
def test_pictures_are_drawn(picture: Path) -> None:
    """A screenshot of a canvas that had not been painted showed black squares."""
    brightest = imread(picture)[..., :3].max(axis=-1)
    assert (brightest < 0.05).mean() < 0.1
    assert brightest.std() > 0.05


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in HISTORY], ids=named)
def test_commands_are_understood(page: Path) -> None:
    for command, whole in commands(page):
        program, *words = shlex.split(command, comments=True)
        try:
            if program == "nuclr":
                check_nuclr(words, whole)
            elif program == "python":
                assert (REPOSITORY / words[0]).is_file()
            else:
                check_snakemake([program, *words] if program == "--config" else words)
        except (Exception, SystemExit) as error:
            pytest.fail(f"{command}\n{error}")


def test_commands_are_found() -> None:
    """So that the test above cannot pass by finding nothing."""
    found = {command.split()[0]: command for page in PAGES for command, _ in commands(page)}
    assert {"nuclr", "snakemake", "python", "--config"} <= set(found)
    with pytest.raises(Exception, match="--stepss"):
        check_nuclr(["pretrain", "folder", "--stepss", "3"], whole=False)
    with pytest.raises(AssertionError, match="no rule scaling_analyses"):
        check_snakemake(["--cores", "2", "scaling_analyses"])
