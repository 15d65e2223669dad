"""Notices that the configuration, or anything it is made of, has changed. Polls content: no thread, no loop, no clock.

Content and not time stamps or inotify: a Kubernetes ConfigMap arrives as a swapped symbolic link (`..data`), an editor
puts a new file in place of the old one, a `touch` changes nothing (OPERATIONS 4.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.config.sources import ABSENT, Fingerprint, fingerprint

if TYPE_CHECKING:
    from pathlib import Path


class Watcher:
    """Compares what the files hold with what was last dealt with.

    Call `look` every `reload.interval`, in a thread, since it reads files.
    """

    def __init__(self, path: Path, running: Fingerprint) -> None:
        self._path = path.absolute()
        self._dealt_with: Fingerprint = {self._path: ABSENT, **running}
        self._last_seen: Fingerprint | None = None

    def look(self) -> bool:
        """Read the files once.

        Returns:
            True once two looks in a row have read the same and it differs from what was last dealt with. It is then
            taken as dealt with: a file that is rejected is not reported again until it changes again, and a change
            back to what runs is reported too, so that a reload can say that all is well again.
        """
        seen = fingerprint(self._dealt_with)
        if seen[self._path] == ABSENT:  # between the two steps of an editor or a swap; there is nothing to load
            self._last_seen = None
            return False
        is_steady = seen == self._last_seen
        self._last_seen = seen
        if seen == self._dealt_with or not is_steady:
            return False
        self._dealt_with = seen
        return True

    def running(self, sources: Fingerprint) -> None:
        """Go on from a configuration that was loaded: from now on watch what it was made of."""
        self._dealt_with = {self._path: ABSENT, **sources}
        self._last_seen = None

    def rejected(self, sources: Fingerprint) -> None:
        """Go on from a configuration that was refused: watch what it asked for, such as a secret yet to come."""
        self.running(sources)
