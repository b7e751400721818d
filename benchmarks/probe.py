"""Measure the time of a probe on 60,000 units with 256 dimensions and ten classes, like the Brain-Wide Map.

Run: python benchmarks/probe.py [kind ...]
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from nuclr.evaluation.classifiers import fit_classifier

UNITS, DIM, CLASSES = 60_000, 256, 10


def main() -> None:
    """Fit each kind once and print seconds, memory and accuracy on new units."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, DIM)) / 10
    labels = rng.choice(CLASSES, UNITS, p=rng.dirichlet(np.full(CLASSES, 3.0)))
    # Correlated like embeddings, with most variance in a few directions; the classes are not separable.
    mixed = rng.standard_normal((DIM, DIM)) * np.geomspace(1, 0.02, DIM)[:, None] + np.eye(DIM)
    features = (centres[labels] + rng.standard_normal((UNITS, DIM)) @ mixed).astype(np.float32)
    names = labels.astype(str)
    for kind in sys.argv[1:] or ["linear"]:
        train, validation = slice(0, 50_000), slice(50_000, 60_000)
        start = time.perf_counter()
        probe = fit_classifier(
            kind, (features[train], names[train]), (features[validation], names[validation])
        )
        seconds = time.perf_counter() - start
        right = (probe.classes_[probe.predict_proba(features[::7]).argmax(axis=1)] == names[::7]).mean()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{kind}: {seconds:.1f} s, {memory:.1f} GB at most, accuracy on what it saw {right:.2f}")


if __name__ == "__main__":
    main()
