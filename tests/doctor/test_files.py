"""What the configuration names on disks: the folder for bodies, our own certificates."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from router.config import loader
from router.doctor import files
from router.doctor.findings import Notes, Result
from tests.doctor.examining import about, only_one, serving
from tests.relay.test_tls import show

if TYPE_CHECKING:
    from pathlib import Path

    import trustme

    from router.config.schema import Config


def config(folder: Path, **top: Any) -> Config:
    text = yaml.safe_dump(serving("http://127.0.0.1:1/v1") | top)
    return loader.parse(text, "router.yaml", directory=folder, environ={}).config


@pytest.mark.parametrize(("most", "result"), [("1KiB", Result.OK), ("900000GiB", Result.WARN)])
def test_the_spool_must_have_room(tmp_path: Path, most: str, result: Result) -> None:
    """As much as all bodies may take is free on the disk of the folder."""
    notes = Notes("machine")
    (tmp_path / "spool").mkdir()
    settings = {"requests": {"spool_dir": "spool", "spooled_total_max": most}}
    files.spool(notes, config(tmp_path, **settings), tmp_path)
    assert only_one(notes)[0] is result
    assert str(tmp_path / "spool") in notes.findings[0].found
    assert list((tmp_path / "spool").iterdir()) == [], "what was tried is gone"


def test_a_spool_that_is_gone_fails(tmp_path: Path) -> None:
    """A folder in which no file can be made is told with the setting that names another."""
    notes = Notes("machine")
    (tmp_path / "spool").mkdir()
    made = config(tmp_path, requests={"spool_dir": "spool"})
    (tmp_path / "spool").rmdir()
    files.spool(notes, made, tmp_path)
    result, found, cure = only_one(notes)
    assert result is Result.FAIL
    assert "No such file or directory" in found
    assert "requests.spool_dir" in cure


def test_without_a_setting_the_systems_folder_is_looked_at(tmp_path: Path) -> None:
    """Where the default leads, a file can be made, or the tests could not run either."""
    notes = Notes("machine")
    files.spool(notes, config(tmp_path, requests={"spooled_total_max": "1KiB"}), tmp_path)
    assert only_one(notes)[0] is Result.OK


@pytest.mark.parametrize(
    ("days", "result", "words"),
    [(90, Result.OK, "90 days left"), (20, Result.WARN, "20 days left"), (-3, Result.FAIL, "expired 3 days ago")],
)
def test_our_own_certificates_are_looked_at(
    tmp_path: Path, authority: trustme.CA, days: int, result: Result, words: str
) -> None:
    """How long each lasts is told, of listeners and for upstreams; three weeks before the end is the time to know."""
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=days, minutes=30)
    begins = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    show(authority.issue_cert("router.test", not_before=begins, not_after=ends), tmp_path)
    tls = {"cert": "client.pem", "key": "client.key"}
    listen = [{"address": "127.0.0.1:0", "tls": tls}, "127.0.0.1:0"]
    shown_to = serving("https://127.0.0.1:1/v1", tls=tls)
    notes = Notes("machine")
    files.own_certificates(notes, config(tmp_path, **shown_to | {"listen": listen}), tmp_path)
    for check in ("certificate of listen 127.0.0.1:0", "certificate for first"):
        assert about(notes.findings, check, "machine").result is result
        assert words in about(notes.findings, check, "machine").found
    assert len(notes.findings) == 2


def test_a_certificate_that_is_gone_fails(tmp_path: Path, authority: trustme.CA) -> None:
    """Between the reading of the file and this look it may vanish: that is a finding, not a failure of ours."""
    show(authority.issue_cert("router.test"), tmp_path)
    made = config(tmp_path, admin={"address": "127.0.0.1:0", "tls": {"cert": "both.pem"}})
    for change in (lambda: (tmp_path / "both.pem").write_text("nothing"), (tmp_path / "both.pem").unlink):
        change()
        notes = Notes("machine")
        files.own_certificates(notes, made, tmp_path)
        assert only_one(notes)[0] is Result.FAIL
