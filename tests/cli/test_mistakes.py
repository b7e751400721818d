"""Options and files that are not what a command expects are named, with what to give instead."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labelled import MODEL, features_of, units
from typer.testing import CliRunner

from nuclr.cli.app import app, setting_of
from nuclr.errors import NuclrError
from nuclr.representation.embeddings import write_embeddings

TRAIN = ["train-probe", "e.parquet", "--column", "kind", "--kinds", "linear", "--centred", "no"]


def refusal(*arguments: str) -> str:
    """Return what a subcommand says when it refuses to run."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    if isinstance(result.exception, NuclrError):
        return str(result.exception)
    assert result.exit_code == 2, result.output
    return re.sub(r"[\s│]+", " ", result.output + result.stderr)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with embeddings, a table of them, and a probe in a model folder."""
    table = units(20)
    table = table.assign(depth=np.arange(len(table), dtype=float), note="x")
    write_embeddings(
        tmp_path / "e.parquet", table, features_of(table), np.ones(len(table), int), {"model": MODEL}
    )
    table.to_csv(tmp_path / "units.csv", index=False)
    table.to_parquet(tmp_path / "units.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("depth", "said"),
    [
        ("dpeth", "--depth: the units have no column dpeth; did you mean depth? columns with numbers: depth"),
        ("note", "--depth: column note has no numbers; columns with numbers: depth"),
    ],
)
def test_a_column_of_depths_that_does_not_exist_is_refused(here: Path, depth: str, said: str) -> None:
    assert said in refusal(*TRAIN, "-o", "p.safetensors", "--depth", depth)
    assert said in refusal("explore", "e.parquet", "--depth", depth)
    assert CliRunner().invoke(app, [*TRAIN, "-o", "p.safetensors"]).exit_code == 0
    assert said in refusal("predict", "e.parquet", "--probe", "p.safetensors", "-o", "x", "--depth", depth)
    assert not (here / "x").exists()


def test_a_column_of_depths_may_be_in_any_of_several_files(here: Path) -> None:
    table = units(20).assign(unit_id=lambda own: "other_" + own["unit_id"])
    write_embeddings(
        here / "f.parquet", table, features_of(table), np.ones(len(table), int), {"model": MODEL}
    )
    result = CliRunner().invoke(app, ["explore", "f.parquet", "e.parquet", "--depth", "depth"])
    assert result.exit_code == 0, result.exception


def test_a_percentage_is_not_a_share() -> None:
    predict = ("predict", "e.parquet", "--probe", "p.safetensors", "-o", "x")
    assert "80 is not a share between 0 and 1; for 80 % write 0.8" in refusal(*predict, "--sure", "80")
    assert "-1 is not a share between 0 and 1" in refusal(*predict, "--sure", "-1")
    assert "for 90 % write 0.9" in refusal(*predict, "--coverage", "90")
    assert "0.2 is below 0.5" in refusal(*predict, "--coverage", "0.2")


def test_what_is_not_a_file_of_embeddings_is_named(here: Path) -> None:
    for given, said in {
        ".": ".: is a folder, but a parquet file is expected; give a file in it, such as e.parquet",
        "units.csv": "units.csv: is not a parquet file; give the one that `nuclr embed` writes",
        "none.parquet": "none.parquet: does not exist; write it with `nuclr embed`",
        "units.parquet": "units.parquet: has no column embedding, so it is not a table of embeddings",
    }.items():
        assert said in refusal("train-probe", given, "--column", "kind", "-o", "p.safetensors")


def test_a_model_or_probe_that_is_not_there_is_named(here: Path) -> None:
    (here / "model" / "probes").mkdir(parents=True)
    (here / "model" / "probes" / "kind.safetensors").touch()
    (here / "empty").mkdir()
    embed = ("embed", "a.nwb", "-o", "x", "--model")
    assert "modeel: does not exist; did you mean model?" in refusal(*embed, "modeel")
    assert "zzz: does not exist; give a folder with model.safetensors" in refusal(*embed, "zzz")
    predict = ("predict", "e.parquet", "-o", "x", "--probe")
    assert "a probe is a file; give a probe in it: model/probes/kind.safetensors" in refusal(
        *predict, "model"
    )
    assert "in it: model/probes/kind.safetensors" in refusal(*predict, "model/probes")
    assert "empty: a folder, but a probe is a file; give a probe.safetensors" in refusal(*predict, "empty")


def test_labels_that_are_not_there_or_fit_no_unit_are_named(here: Path) -> None:
    pd.DataFrame({"unit_id": ["mouse-7"], "kind": ["x"]}).to_csv(here / "labels.csv", index=False)
    train = (*TRAIN, "-o", "p.safetensors", "--labels")
    said = refusal(*train, "labels.csv")
    assert "its first id is mouse-7, the first id of the embeddings is a0_0; write the ids like" in said
    assert "none.csv: does not exist; give a table with the columns unit_id and kind" in refusal(
        *train, "none.csv"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "pretrain m -o x --steps 60",
            "--steps is a key of the configuration; give it as -c pretrain.steps=60",
        ),
        ("pretrain m -o x --pretrain.steps=60", "give it as -c pretrain.steps=60"),
        ("inspect m --rate-hz", "give it as -c imaging.rate_hz=VALUE"),
        ("simulate -o x --seed 1", "give it as -c simulated.seed=1 or -c split.seed=1"),
        ("pretrain m -o x --seed 1 --nothing", ""),
        ("predict e.parquet --steps 60", ""),
        ("--steps", ""),
    ],
)
def test_an_unknown_option_that_is_a_key_is_a_setting(arguments: str, said: str) -> None:
    hint = setting_of(arguments.split())
    assert hint.endswith(said)
    assert bool(hint) == bool(said)
