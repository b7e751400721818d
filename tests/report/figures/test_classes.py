"""A class has the same colour in every figure of a data set."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nuclr.report.figures.classes import COLOURS, SHOWN_CLASSES, UNKNOWN, colour_of, in_order

names = st.lists(st.sampled_from(["", *(f"class {i}" for i in range(30))]), max_size=60)


@given(names, st.randoms())
def test_the_order_depends_on_numbers_of_units_and_not_on_their_order(labels: list[str], shuffle) -> None:
    mixed = list(labels)
    shuffle.shuffle(mixed)
    assert in_order(np.array(labels, object)) == in_order(np.array(mixed, object))
    assert set(in_order(np.array(labels, object))) == set(labels) - {""}


@given(names)
def test_no_hidden_class_is_more_frequent_than_a_shown_one(labels: list[str]) -> None:
    classes = in_order(np.array(labels, object))
    shown, others = classes[:SHOWN_CLASSES], classes[SHOWN_CLASSES:]
    assert shown == sorted(shown)
    assert max(map(labels.count, others), default=0) <= min(map(labels.count, shown), default=0)


def test_ten_classes_have_ten_colours_and_any_other_text_is_grey() -> None:
    classes = [f"class {i}" for i in range(10)]
    assert len({colour_of(name, classes) for name in classes}) == len(COLOURS) == 10
    assert colour_of("", classes) == colour_of("another", classes) == UNKNOWN
