"""A card says what a model is made of, how good it is, and under which licence its recordings are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nuclr.model.card import card, write_card

RECORD: dict[str, Any] = {
    "modality": "spikes",
    "bin_s": 0.02,
    "encoder": {"tokens": 10, "patch": 50, "dim": 32},
    "datasets": ["mice"],
    "animals": ["m1", "m2"],
    "units": 40,
    "hours": 1.5,
    "seed": 3,
    "sha256": "ab" * 32,
    "config": {
        "pretrain": {"steps": 7, "pairs_per_step": 2, "loss": "contrastive", "learning_rate": 0.002},
    },
    "machine": {"accelerator": "gpu", "devices": 2},
    "inputs": {
        "a/all": {"sha256": "1", "licence": "CC BY 4.0, says article 1"},
        "b/all": {"sha256": "2", "licence": "CC BY 4.0, says article 1"},
        "c/all": {"sha256": "3"},
    },
}
SCORE = {
    "task": "cell_type",
    "protocol": "inductive_zero_shot",
    "units": 12,
    "macro_f1": 0.71,
    "low": 0.6,
    "high": 0.8,
    "within_recordings": 0.7,
    "chance": 0.33,
}


def test_it_says_what_the_model_is(tmp_path: Path) -> None:
    write_card(tmp_path / "README.md", RECORD, [SCORE])
    text = (tmp_path / "README.md").read_text()
    for said in (
        "| Data sets | mice |",
        "| Animals | 2: m1, m2 |",
        "| Recorded | 40 units, 1.5 hours |",
        "| Steps | 7 steps of 2 pairs, contrastive loss, peak learning rate 0.002 |",
        "| Input | spikes in bins of 0.02 s, windows of 10 s |",
        "| cell_type | inductive_zero_shot | 12 | 0.710 (0.600 to 0.800) | 0.700 | 0.330 |",
        "| Hardware | 2 GPUs |",
        "## Intended use",
    ):
        assert said in text


def test_an_interval_stands_with_its_animals_and_of_few_there_is_none() -> None:
    assert "| 0.710 (0.600 to 0.800; 6 animals) |" in card(RECORD, [{**SCORE, "test_animals": 6}])
    assert "| 0.710 |" in card(
        RECORD, [{**SCORE, "test_animals": 2, "low": float("nan"), "high": float("nan")}]
    )


def test_licences_are_counted_and_what_is_not_known_is_said() -> None:
    text = card(RECORD)
    assert "- CC BY 4.0, says article 1 (2 populations)\n" in text
    assert (
        "- not known to nuclr: ask whoever recorded them before you publish this model (1 population)" in text
    )
    assert "Not measured. `nuclr train-probe embeddings.parquet --column brain_region -o MODEL`" in text
    assert "nuclr card" not in text  # which would write the whole card anew


def test_a_model_from_elsewhere_and_one_that_learned_nothing() -> None:
    own = {**RECORD, "inputs": {}, "animals": [], "datasets": []}
    assert "- none needed: the model was not trained on recordings" in card(own)
    published = card({**own, "source": {"file": "theirs.pt", "sha256": "cd"}})
    assert "- not known to nuclr" in published
    assert "| Animals | not stated; imported from theirs.pt, sha256 `cd` |" in published
