from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.config.values import BadValue
from router.migrate.account import Account, Fate
from router.migrate.draft import ADMIN_PORT, COMMENTS_MAX, Draft, base_url, faults

if TYPE_CHECKING:
    from router.migrate.draft import Settings


def drafted(upstream: Settings | None = None, keys: dict[str, Settings] | None = None) -> Draft:
    draft = Draft(models={"m": {"pool": ["a"]}}, keys=keys or {})
    draft.add_upstream("a", upstream or {"base_url": "http://10.0.0.1:8000/v1"})
    listen, admin = draft.listen(8080)
    draft.others |= {"listen": listen, "admin": admin}
    return draft


def test_a_draft_is_a_good_file() -> None:
    """What a draft holds reads as a configuration without faults."""
    draft = drafted()
    assert faults(draft.text(Account("s"), "Made."), draft.environment(), "new") == ()
    assert faults("listen: 1", (), "new") != ()


def test_comments_tell_and_never_end_the_file() -> None:
    """What is not carried and what the file needs stands above it as comments, however the source is named."""
    account = Account("s\nlisten: nowhere")
    account.leave(("a\nb: c",), 1, "no")
    account.change(("d",), 2, "other")
    draft = drafted({"base_url": "http://h/v1", "api_key": {"env": "ONE"}}, keys={"k": {"secret": {"env": "TWO"}}})
    text = draft.text(account, "Made\nof: it")
    head = text.split("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in head)
    assert "# It needs in its environment: ONE TWO" in head
    assert "# Not carried (1):" in head
    assert "# Carried differently (1):" in head
    assert faults(text, draft.environment(), "new") == ()


def test_comments_are_bounded() -> None:
    """Of very many remarks the file holds the first, and says how many more there are."""
    account = Account("s")
    for number in range(COMMENTS_MAX + 7):
        account.leave((number,), number, "no")
    assert len(account.lines(Fate.LEFT)) == COMMENTS_MAX + 7
    assert "and 7 more" in drafted().text(account, "Made.")


def test_names_do_not_collide() -> None:
    """Upstreams of one hint get names of their own, of signs that need no quotes."""
    draft = Draft()
    names = [draft.add_upstream(hint, {}) for hint in ("a b", "a b", "a-b", "…")]
    assert names == ["a-b", "a-b-2", "a-b-3", "upstream"]


def test_a_secret_becomes_a_variable() -> None:
    """One secret has one variable, another one another, and none that is spoken for; the secret is nowhere in it."""
    draft = Draft(variables={"ROUTER_A_KEY"})
    assert draft.reference("s1", "a") == draft.reference("s1", "b") == {"env": "ROUTER_A_KEY_2"}
    assert draft.reference("s2", "a") == {"env": "ROUTER_A_KEY_3"}
    assert draft.reference("s3", "…") == {"env": "ROUTER__KEY"}
    assert "s1" not in repr(draft)


def test_no_address_is_taken_twice() -> None:
    """The new file listens where no upstream is, its preset's own address included, and only locally without keys."""
    assert drafted({"base_url": "http://10.0.0.1:8080/v1"}).others["listen"] == "127.0.0.1:8080"
    assert drafted({"base_url": "http://127.0.0.1:8080/v1"}).others["listen"] == "127.0.0.1:8081"
    draft = Draft(keys={"k": {"secret": {"env": "K"}}})
    draft.upstreams = {"a": {"preset": "vllm"}, "b": {"base_url": f"http://127.0.0.1:{ADMIN_PORT}/v1"}}
    assert draft.listen(8000) == (":8001", f"127.0.0.1:{ADMIN_PORT + 1}")
    assert Draft().listen(ADMIN_PORT) == (f"127.0.0.1:{ADMIN_PORT}", f"127.0.0.1:{ADMIN_PORT + 1}")
    assert Draft(upstreams={"a": {"base_url": "http://localhost:65535/"}}).listen(65535)[0] == "127.0.0.1:1024"


def test_a_base_url_is_checked() -> None:
    """What `check` would refuse is refused, and so is what it would take for a range; nothing is repeated."""
    assert base_url("https://h/v1/") == "https://h/v1"
    for wrong in ("http://10.0.0.{1..4}/v1", "h", "http://u:hunter2@h/", "http://h/?a=b", "ftp://h"):
        with pytest.raises(BadValue) as refused:
            base_url(wrong)
        assert "hunter2" not in str(refused.value)
