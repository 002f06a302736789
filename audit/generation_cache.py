"""Values derived from governed records, held in memory per process for one generation."""

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from audit.generation import current_mark

T = TypeVar("T")

_registered: list["PerGeneration[object]"] = []


class PerGeneration(Generic[T]):
    """A value that is built again when the generation has moved.

    `cached` costs no query and may lag behind; use it only where the deciding transaction checks
    the mark again. `current` reads the mark first.
    """

    def __init__(self, build: Callable[[], T]) -> None:
        self._build = build
        self._lock = Lock()
        self._held: tuple[int, T] | None = None
        _registered.append(self)  # type: ignore[arg-type]  # a list of mixed T, only emptied

    def cached(self) -> T:
        held = self._held
        return held[1] if held is not None else self.current()

    def cached_with_version(self) -> tuple[int, T]:
        """The held value with the mark of the generation it was built from."""
        held = self._held
        return held if held is not None else self._rebuilt(current_mark())

    def current(self) -> T:
        mark = current_mark()
        held = self._held
        if held is not None and held[0] == mark:
            return held[1]
        return self._rebuilt(mark)[1]

    def forget(self) -> None:
        self._held = None

    def _rebuilt(self, mark: int) -> tuple[int, T]:
        with self._lock:
            held = self._held
            if held is not None and held[0] == mark:
                return held
            # The build takes several reads: it counts only if nothing moved meanwhile.
            while True:
                value = self._build()
                after = current_mark()
                if after == mark:
                    break
                mark = after
            self._held = (mark, value)
            return self._held


def forget_all() -> None:
    """Drop every held value, as after a change of database under a living process."""
    for one in _registered:
        one.forget()
