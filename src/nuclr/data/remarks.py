"""What a model will make of recordings, said when they are inspected and not only when one is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from nuclr.config import Views
from nuclr.data.inputs import why_too_short
from nuclr.data.kinds import Kind, differences, kind_of
from nuclr.data.own import Found
from nuclr.data.population import Population
from nuclr.errors import NuclrError
from nuclr.words import counted

Opened = tuple[Found, list[Population], NuclrError | None]


@dataclass(frozen=True)
class Remarks:
    """Collects what pretraining and embedding will leave out of some recordings.

    Attributes
    ----------
    views
        Windows with which a model is trained.
    """

    views: Views
    _kinds: list[tuple[str, Kind]] = field(default_factory=list)
    _too_short: list[str] = field(default_factory=list)

    def noting(self, opened: Iterable[Opened]) -> Iterator[Opened]:
        """Yield recordings unchanged, and remember what is to be said of them."""
        for recording, populations, error in opened:
            for population in populations:
                self._kinds.append((population.recording, kind_of(population)))
                window_s = self.views.of(population.modality).window_s
                assert window_s is not None
                if why := why_too_short(population, int(window_s / population.bin_s + 1e-6)):
                    self._too_short.append(f"population {population.population} {why}")
            yield recording, populations, error

    def sentences(self) -> list[str]:
        """Return a sentence for each difference between the recordings, and for recordings too short."""
        said = []
        names, kinds = [name for name, _ in self._kinds], [kind for _, kind in self._kinds]
        if differ := differences(names, kinds):
            said.append(
                f"{differ}; a model reads only one of them, and `nuclr pretrain` leaves out the others"
            )
        if self._too_short:
            more = len(self._too_short) - 3
            shown = "; ".join(self._too_short[:3]) + (f"; and {counted(more, 'other')}" if more > 0 else "")
            said.append(
                f"{shown}: not used by a model with such windows; `nuclr pretrain -c views.window_s=...` "
                "trains a model with shorter ones"
            )
        return said
