from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from router.config import dump, includes
from router.config.loader import Loaded, Rejected, load, load_without_secrets, parse
from router.config.schema import FileName, Seconds, Secret
from router.config.sources import ENTRIES_MAX, FILE_BYTES_MAX, Listing, fingerprint
from router.config.watcher import Watcher
from tests.config.files import pem_files

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST = """\
include: [keys.yaml, teams/]
upstreams:
  a: {base_url: http://10.0.0.1:8000/v1}
models: {m: a}
"""
YAML = ("*.yaml", "*.yml")
TOO_LARGE = "larger than 1048576 bytes"


def key(number: int) -> str:
    return f"{{secret: {{sha256: {number:064}}}}}"


def keys(*names: str) -> str:
    return "keys:\n" + "".join(f"  {name}: {key(sum(name.encode()))}\n" for name in names)


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write a configuration; the first file's path."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "router.yaml"


def loaded(folder: Path, files: Mapping[str, str], environ: Mapping[str, str] | None = None) -> Loaded:
    return load(write(folder, files), environ=environ or {})


def faults(folder: Path, files: Mapping[str, str]) -> list[str]:
    """What is told of these files, which must be refused; their names without the folder."""
    with pytest.raises(Rejected) as refused:
        loaded(folder, files)
    return [fault.replace(f"{folder}/", "") for fault in refused.value.faults]


def test_names_of_all_files_add_up(tmp_path: Path) -> None:
    """Files, folders and patterns give upstreams, models, keys, pins and default models of one configuration."""
    config = loaded(
        tmp_path,
        {
            "router.yaml": FIRST.replace("teams/]", 'teams/, "more/*.conf"]') + keys("first"),
            "keys.yaml": keys("second") + "pins: {files: a}\n",
            "teams/b.yml": keys("fourth"),
            "teams/a.yaml": keys("third") + "models: {n: b}\nupstreams: {b: {base_url: http://b/v1}}\n",
            "teams/.hidden.yaml": "not: {read",
            "teams/README": "not: {read",
            "teams/..data/c.yaml": "not: {read",
            "more/x.conf": "default_models: {moderations: n}\npins: {batches: b}\nstop: {drain: 7s}\n",
            "more/x.yaml": "not: {read",
        },
    ).config
    assert list(config.keys) == ["first", "second", "third", "fourth"]
    assert (list(config.upstreams), list(config.models)) == (["a", "b"], ["m", "n"])
    assert (config.pins, config.default_models) == ({"files": "a", "batches": "b"}, {"moderations": "n"})
    assert config.stop.drain == Seconds(7)


def test_the_first_file_may_hold_nothing_but_the_list(tmp_path: Path) -> None:
    """Every setting may stand in an included file, whatever is nested in it; a file of remarks alone is none."""
    config = loaded(
        tmp_path,
        {
            "router.yaml": "include: [conf.d/]\nkeys:\n",
            "conf.d/10-upstreams.yaml": FIRST.partition("\n")[2],
            "conf.d/20-keys.yaml": "keys:\n",
            "conf.d/30-keys.yaml": keys("k"),
            "conf.d/40-nothing.yaml": "# nothing yet\n",
            "conf.d/50-log.yaml": "log: {access: false}\n",
            "conf.d/60-commented-out.yaml": "log:\nkeys:\n",
        },
    ).config
    assert (list(config.keys), list(config.models), config.log.access) == (["k"], ["m"], False)


def test_an_empty_folder_is_no_fault(tmp_path: Path) -> None:
    """A folder or a pattern may stand for nothing yet, and an empty list too."""
    (tmp_path / "teams").mkdir()
    rest = FIRST.partition("\n")[2]
    for listed in ('[teams/, teams, "teams/*.conf"]', "[]", ""):
        assert loaded(tmp_path, {"router.yaml": f"include: {listed}\n{rest}"}).config.keys == {}


def test_what_is_shown_is_one_configuration(tmp_path: Path) -> None:
    """`config show` prints what came of all files, without `include`, and it is read the same in the first's place."""
    files = {"router.yaml": FIRST.replace("keys.yaml, ", ""), "teams/a.yaml": "keys: {k: {secret: {file: k}}}"}
    (tmp_path / "teams").mkdir()
    (tmp_path / "teams" / "k").write_text("hunter2")
    text = dump.to_yaml(found := loaded(tmp_path, files))
    assert "include" not in text
    again = parse(text, "shown", directory=tmp_path, environ={})
    assert (dump.effective(again), again.secrets) == (dump.effective(found), found.secrets)


def test_a_name_given_twice_tells_both_places(tmp_path: Path) -> None:
    """Nothing overrides anything: of a name or setting in two files the second is told, with where the first is."""
    assert faults(
        tmp_path,
        {
            "router.yaml": FIRST + "log: {access: false}\n" + keys("k"),
            "keys.yaml": "log: {access: false}\n" + keys("x", "k"),
            "teams/a.yaml": "models:\n  n: a\nstop: {drain: 1s}\n" + keys("x"),
            "teams/b.yaml": "stop: {drain: 1s}\nmodels: {m: a, n: a}\n",
        },
    ) == [
        "keys.yaml:1:1: log: given twice, first in router.yaml:5:1",
        "keys.yaml:4:3: keys.k: given twice, first in router.yaml:7:3",
        "teams/a.yaml:5:3: keys.x: given twice, first in keys.yaml:3:3",
        "teams/b.yaml:1:1: stop: given twice, first in teams/a.yaml:3:1",
        "teams/b.yaml:2:10: models.m: given twice, first in router.yaml:4:10",
        "teams/b.yaml:2:16: models.n: given twice, first in teams/a.yaml:2:3",
    ]


def test_every_fault_names_its_file(tmp_path: Path) -> None:
    """Wrong values, unknown settings, flaws and contradictions are told where they stand, in the order of the files."""
    assert faults(
        tmp_path,
        {
            "router.yaml": FIRST.replace("{m: a}", "{m: aa}\nloog: 1"),
            "keys.yaml": "keys:\n  k: {secret: {env: NONE}, limits: {concurrency: 0}}\n  k: 1\n",
            "teams/a.yaml": "\nmodels:\n  n: {pool: [a, b], fallback: [mm]}\nstopp: 2\n",
            "teams/b.yaml": "stop: {drain: soon}\nkeys: {l: 1, l: 2}\nstop: {}\n",
        },
    ) == [
        "router.yaml:4:13: models.m.pool[0].upstream: no upstream is named 'aa', did you mean 'a'?",
        "router.yaml:5:1: loog: unknown setting, did you mean 'log'?",
        "keys.yaml:2:7: keys.k.secret: environment variable NONE is not set",
        "keys.yaml:2:50: keys.k.limits.concurrency: must be at least 1",
        "keys.yaml:3:3: keys.k: given twice, first on line 2",
        "teams/a.yaml:3:17: models.n.pool[1].upstream: no upstream is named 'b'",
        "teams/a.yaml:3:32: models.n.fallback[0]: no model is named 'mm', did you mean 'm'?",
        "teams/a.yaml:4:1: stopp: unknown setting, did you mean 'stop'?",
        "teams/b.yaml:1:15: stop.drain: 'soon' is not a duration; write 250ms, 3s, 1m30s or 2h",
        "teams/b.yaml:2:11: keys.l: expected settings (secret, models, limits, disabled), found a number",
        "teams/b.yaml:2:14: keys.l: given twice, first on line 2",
        "teams/b.yaml:3:1: stop: given twice, first on line 1",
    ]


def test_what_cannot_be_included_is_told_on_the_line_that_asks(tmp_path: Path) -> None:
    """A missing, unreadable or strange file or folder is a fault of the list, and the rest is still read."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "a\nb.yaml").touch()
    listed = """\
include:
  - missing.yaml
  - missing/
  - keys.yaml
  - ./keys.yaml
  - pipe
  - odd/
  - router.yaml
  - "*/keys.yaml"
  - "missing/*.yaml"
  - ""
  - "a\\0b"
  - [keys.yaml]
"""
    path = str(tmp_path / "router.yaml")
    assert faults(tmp_path, {"router.yaml": listed, "keys.yaml": "keys: 5\n"}) == [
        "router.yaml:2:5: include[0]: file missing.yaml cannot be read: No such file or directory",
        "router.yaml:3:5: include[1]: folder missing/ cannot be read: No such file or directory",
        "router.yaml:5:5: include[3]: file ./keys.yaml is read already, as keys.yaml",
        "router.yaml:6:5: include[4]: pipe is not a file",
        "router.yaml:7:5: include[5]: folder odd/ has a file whose name cannot be shown: 'a\\nb.yaml'",
        "router.yaml:8:5: include[6]: file router.yaml is read already, as router.yaml",
        "router.yaml:9:5: include[7]: a pattern may stand only behind the last slash",
        "router.yaml:10:5: include[8]: folder missing cannot be read: No such file or directory",
        "router.yaml:11:5: include[9]: is not a path",
        "router.yaml:12:5: include[10]: is not a path",
        "router.yaml:13:5: include[11]: expected a single value, found a list",
        "keys.yaml:1:7: keys: expected names, each with its settings, found a number",
    ], path


def test_the_list_is_a_list(tmp_path: Path) -> None:
    """A bare name in place of the list is a fault that says how to write it."""
    first = "include: models.yaml\nupstreams: {a: {base_url: http://a/v1}}\n"
    assert faults(tmp_path, {"router.yaml": first, "models.yaml": "models: {m: a}"}) == [
        "router.yaml:1:10: include: expected a list, found text; a list of one is written [value]"
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: {1", "keys.yaml:2:1: did not find expected ',' or '}', while parsing a flow mapping that began on line 1"),
        ("a: \x01", "keys.yaml:1:4: character U+0001 does not belong into a YAML file"),
        ("a: !x 1", "keys.yaml:1:4: tags (`!…`) are not read here"),
        ("[" * 40, "keys.yaml:1:33: nested deeper than 32 levels"),
        ("- k", "keys.yaml:1:1: expected settings, as in the file that includes this one"),
        ("k", "keys.yaml:1:1: expected settings, as in the file that includes this one"),
        ("#" * FILE_BYTES_MAX + "#", f"router.yaml:1:11: include[0]: file keys.yaml cannot be read: {TOO_LARGE}"),
        ("include: [more.yaml]", "keys.yaml:1:1: include: only the first file includes others; name these there"),
        ("keys: {a: *x}", "keys.yaml:1:11: no anchor of this name comes before this alias"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_fault(tmp_path: Path, text: str, fault: str) -> None:
    """What it may have held is not missed: no fault is told that only follows from its absence."""
    first = "include: [keys.yaml]\nx-anchor: &x {}\nmodels: {m: perhaps_there}\nstop: {drain: soon}\n"
    other = "router.yaml:4:15: stop.drain: 'soon' is not a duration; write 250ms, 3s, 1m30s or 2h"
    told = faults(tmp_path, {"router.yaml": first, "keys.yaml": text})
    assert told == sorted([fault, other], key=lambda line: line.startswith("keys"))


def test_bytes_that_are_no_text_are_told_in_their_file(tmp_path: Path) -> None:
    """The encoding of each file is judged for itself, and a byte order mark is no fault."""
    (tmp_path / "teams").mkdir()
    (tmp_path / "teams/a.yaml").write_bytes(b"\xef\xbb\xbf" + keys("k").encode())
    (tmp_path / "keys.yaml").write_bytes(b"\nkeys: \xff")
    assert faults(tmp_path, {"router.yaml": FIRST}) == ["keys.yaml:2:7: not UTF-8 text"]


def test_relative_paths_begin_at_the_file_they_stand_in(tmp_path: Path) -> None:
    """Secrets, certificates and folders are looked for beside the file that names them, unless they are absolute."""
    for folder in ("", "teams/", "apart/"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "k").write_text(f"secret of {folder or 'the first'}")
    (tmp_path / "apart" / "spool").mkdir()
    pem_files(tmp_path / "teams")
    found = loaded(
        tmp_path / "first",
        {
            "router.yaml": f"include: [../teams/, {tmp_path}/apart/a.yaml]\nkeys: {{one: {{secret: {{file: ../k}}}}}}",
            "../teams/a.yaml": """
upstreams: {a: {base_url: https://a/v1, tls: {ca: ca.pem, cert: cert.pem, key: key.pem}, api_key: {file: k}}}
models: {m: a}
""",
            "../apart/a.yaml": f"""
keys: {{two: {{secret: {{file: k}}}}, three: {{secret: {{file: {tmp_path}/teams/../teams/k}}}}}}
requests: {{spool_dir: spool}}
""",
        },
    )
    here = tmp_path / "first"
    assert found.secrets == {
        Secret(file=FileName("../teams/k")): "secret of teams/",
        Secret(file=FileName("../k")): "secret of the first",
        Secret(file=FileName(f"{tmp_path}/apart/k")): "secret of apart/",
        Secret(file=FileName(f"{tmp_path}/teams/../teams/k")): "secret of teams/",
    }
    assert found.config.upstreams["a"].tls.ca == f"{here}/../teams/ca.pem"
    assert found.config.requests.spool_dir == f"{tmp_path}/apart/spool"


def test_what_is_no_path_is_none_in_any_file(tmp_path: Path) -> None:
    """An empty path is not taken for the folder of the file that it stands in."""
    files = {"router.yaml": FIRST.replace("keys.yaml, ", ""), "teams/a.yaml": 'keys: {k: {secret: {file: " "}}}'}
    assert faults(tmp_path, files) == ["teams/a.yaml:1:12: keys.k.secret: file must be a path"]


def test_faults_name_files_as_the_first_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault begins with a path that can be followed from where the command was given."""
    write(tmp_path / "config", {"router.yaml": FIRST, "keys.yaml": "keyes: 1"})
    (tmp_path / "config" / "teams").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Rejected) as refused:
        load(Path("config/router.yaml"), environ={})
    assert refused.value.faults == ("config/keys.yaml:1:1: keyes: unknown setting, did you mean 'keys'?",)


def test_anchors_stay_in_their_file(tmp_path: Path) -> None:
    """Each file may have anchors of its own under the same `x-` name."""
    files = {
        name: f"x-key: &k {key(number)}\nkeys: {{{name[0]}: *k}}\n" for number, name in enumerate(("1.yaml", "2.yaml"))
    }
    first = FIRST.replace("[keys.yaml, teams/]", '["?.yaml"]') + "x-key: &k 1\n"
    assert set(loaded(tmp_path, {"router.yaml": first, **files}).config.keys) == {"1", "2"}


def test_what_an_alias_stands_for_is_not_added_to(tmp_path: Path) -> None:
    """Names that another file adds to a section are not added to what else has its settings from the same anchor."""
    rest = 'include: ["?.yaml"]\nupstreams: {a: {base_url: http://a}}\nmodels: {m: a}\n'
    none = "x-none: &none {}\nkeys: *none\npins: *none\n"
    for first, second in ((none, ""), ("", none)):
        files = {"router.yaml": rest + first, "1.yaml": second, "2.yaml": keys("k")}
        config = loaded(tmp_path, files).config
        assert (list(config.keys), config.pins) == (["k"], {})


def test_what_is_included_is_bounded(tmp_path: Path) -> None:
    """Files, their bytes and what aliases make of them are counted together: a folder cannot stand for very much."""
    (tmp_path / "teams").mkdir()
    for number in range(includes.FILES_MAX + 5):
        (tmp_path / "teams" / f"{number:04}.yaml").touch()
    first = FIRST.replace("keys.yaml, ", "")
    assert faults(tmp_path, {"router.yaml": first}) == [
        "router.yaml:1:11: include[0]: more than 1000 files in all that is included"
    ]
    laughs = "x-0: &0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"x-{level}: &{level} [{', '.join([f'*{level - 1}'] * 9)}]\n" for level in range(1, 5)
    )
    for number in range(8):
        (tmp_path / "teams" / f"{number:04}.yaml").write_text(laughs)
    assert faults(tmp_path, {"router.yaml": first}) == [
        "router.yaml:1:11: include[0]: more than 500000 values, aliases written out in all that is included"
    ]
    for number in range(8):
        (tmp_path / "teams" / f"{number:04}.yaml").write_text("#" * (1 << 20))
    assert faults(tmp_path, {"router.yaml": first}) == [
        "router.yaml:1:11: include[0]: more than 8388608 bytes in all that is included"
    ]
    for number in range(ENTRIES_MAX):
        (tmp_path / "teams" / f".{number}").touch()
    assert faults(tmp_path, {"router.yaml": first}) == [
        "router.yaml:1:11: include[0]: folder teams/ cannot be read: more than 10000 entries"
    ]


def test_a_thousand_faulty_files_are_told_in_bounded_space(tmp_path: Path) -> None:
    """However many files are wrong, a bounded number of lines says so."""
    files = {f"teams/{number:03}.yaml": f"wrong{number}: 1\n" for number in range(300)}
    told = faults(tmp_path, {"router.yaml": FIRST.replace("keys.yaml, ", ""), **files})
    assert len(told) == 101
    assert told[-1] == "router.yaml: and 200 more faults"


def test_secrets_may_be_left_out(tmp_path: Path) -> None:
    """Who sends nothing reads the same configuration, whatever its secrets are."""
    files = {"router.yaml": FIRST, "keys.yaml": "keys: {k: {secret: {env: NOBODY_HAS_SET_THIS}}}"}
    (tmp_path / "teams").mkdir()
    assert list(load_without_secrets(write(tmp_path, files)).keys) == ["k"]
    with pytest.raises(Rejected, match=r"keys\.yaml:1:12: keys\.k\.secret: environment variable"):
        load(tmp_path / "router.yaml", environ={})


def looks(watcher: Watcher, times: int = 4) -> list[bool]:
    return [watcher.look() for _ in range(times)]


def test_files_and_folders_are_watched(tmp_path: Path) -> None:
    """A file changed, added to a folder or removed is a change, once; what is hidden or of another kind is none."""
    first = write(tmp_path, {"router.yaml": FIRST, "keys.yaml": keys("k"), "teams/a.yaml": keys("a")})
    assert set(load(first, environ={}).sources) == {
        first, tmp_path / "keys.yaml", Listing(tmp_path / "teams/", YAML), tmp_path / "teams/a.yaml",
    }  # fmt: skip
    watcher, digests = Watcher(first, load(first, environ={}).sources), {load(first, environ={}).digest}
    for name, text in (("keys.yaml", keys("k", "l")), ("teams/a.yaml", keys("b")), ("teams/b.yml", keys("c")),
                       ("teams/b.yml", None)):  # fmt: skip
        (tmp_path / name).unlink() if text is None else (tmp_path / name).write_text(text)
        assert looks(watcher) == [False, True, False, False], name
        again = load(first, environ={})
        watcher.running(again.sources)
        digests.add(again.digest)
    assert len(digests) == 4, "the last is the state before the last but one"
    for name in ("teams/.swap.yaml", "teams/README", "other.yaml"):
        (tmp_path / name).touch()
    assert looks(watcher) == [False] * 4


def test_a_file_yet_to_come_is_watched_for(tmp_path: Path) -> None:
    """A configuration refused for a missing file or folder is looked at again when that comes."""
    first = write(tmp_path, {"router.yaml": FIRST})
    for name in ("keys.yaml", "teams/a.yaml"):
        with pytest.raises(Rejected) as refused:
            load(first, environ={})
        watcher = Watcher(first, refused.value.sources)
        assert looks(watcher) == [False] * 4
        write(tmp_path, {name: keys(name[0])})
        assert looks(watcher) == [False, True, False, False]
    assert set(load(first, environ={}).config.keys) == {"k", "t"}


def test_a_swapped_config_map_is_one_change(tmp_path: Path) -> None:
    """A mounted folder whose files all change at once, by one renamed link, is read anew, once for each swap."""
    folder = tmp_path / "teams"

    def publish(generation: str, files: Mapping[str, str]) -> None:
        write(folder / generation, files)
        (folder / "..data_tmp").symlink_to(generation)
        (folder / "..data_tmp").rename(folder / "..data")
        for name in files:
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(Path("..data") / name)

    publish("..2026_01", {"a.yaml": keys("a"), "b.yaml": keys("b")})
    first = write(tmp_path, {"router.yaml": FIRST.replace("keys.yaml, ", "")})
    before = load(first, environ={})
    watcher = Watcher(first, before.sources)
    publish("..2026_02", {"a.yaml": keys("b"), "b.yaml": keys("a"), "c.yaml": keys("c")})
    assert looks(watcher) == [False, True, False, False]
    after = load(first, environ={})
    assert (set(before.config.keys), set(after.config.keys)) == ({"a", "b"}, {"a", "b", "c"})
    watcher.running(after.sources)
    publish("..2026_03", {"a.yaml": keys("b"), "b.yaml": keys("a"), "c.yaml": keys("c")})
    assert looks(watcher) == [False] * 4
    assert fingerprint(after.sources) == after.sources
