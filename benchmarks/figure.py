"""A measured figure beside the limit, the peer or the truth of the same run, and its goal."""

from __future__ import annotations

from dataclasses import dataclass

WIDTHS = (62, 12, 50, 9, 20, 6)
COLUMNS = ("work", "figure", "beside", "ratio", "goal", "met")


@dataclass(frozen=True)
class Goal:
    """What the figure, or its ratio, should be at most or at least."""

    of: str = "ratio"
    at_most: float | None = None
    at_least: float | None = None

    def met(self, figure: float, ratio: float) -> bool:
        x = ratio if self.of == "ratio" else figure
        too_much = self.at_most is not None and not x <= self.at_most
        return not (too_much or (self.at_least is not None and not x >= self.at_least))

    def __str__(self) -> str:
        sign = ">=" if self.at_most is None else "<="
        bound = self.at_least if self.at_most is None else self.at_most
        return f"{self.of} {sign} {bound:g}"


@dataclass(frozen=True)
class Figure:
    """One line of the table; `figure` is None for work that was not done, `beside_is` says why."""

    work: str
    figure: float | None
    unit: str
    beside: float | None
    beside_is: str
    goal: Goal | None = None

    @property
    def ratio(self) -> float | None:
        if self.figure is None or not self.beside:
            return None
        return self.figure / self.beside

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None where there is none."""
        if self.goal is None:
            return None
        if self.figure is None:
            return False
        ratio = float("nan") if self.ratio is None else self.ratio
        return self.goal.met(self.figure, ratio)

    def line(self) -> str:
        word = {None: "", True: "met", False: "MISSED"}[self.met]
        beside = self.beside_is
        if self.beside is not None:
            beside = f"{self.beside:.4g} {self.unit}, {self.beside_is}".replace(" ,", ",")
        figure = "not done" if self.figure is None else f"{self.figure:.4g} {self.unit}".rstrip()
        ratio = "" if self.ratio is None else f"{self.ratio:.3g}"
        return _row((self.work, figure, beside, ratio, str(self.goal or ""), word))


def header() -> str:
    return "\n".join([_row(COLUMNS), _row(tuple("-" * width for width in WIDTHS))])


def _row(cells: tuple[str, ...]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))
    return " | ".join(padded).rstrip()
