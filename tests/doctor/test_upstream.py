"""One upstream from its name to its models: the order of steps, and what no finding may repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.doctor.examining import ONE_KEY, examined, list_of, results, serving
from tests.harness.proxy import ConnectProxy
from tests.harness.upstream import error, json_answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.upstream import ScriptedUpstream


async def test_the_steps_of_a_healthy_upstream(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Every step is told once and in order; a deep examination adds one line for each model."""
    settings = serving(f"http://localhost:{upstream.port}/v1", api_key=ONE_KEY)
    assert [check for check, _ in results(await examined(tmp_path, settings))] == ["dns", "tcp", "credential", "models"]
    upstream.then(list_of("m")).always(json_answer())
    deep = await examined(tmp_path, settings, is_deep=True)
    assert results(deep)[-1] == ("deep m", "ok")


async def test_a_bad_credential_does_not_hide_a_missing_model(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Of two credentials one is refused; what the other one sees is compared all the same."""
    upstream.then(error(401), list_of("other"), error(401))
    keys = [{"env": "UPSTREAM_SECRET"}, {"env": "OTHER_SECRET"}]
    found = await examined(tmp_path, serving(upstream.base_url, api_keys=keys))
    assert results(found)[1:] == [("credential 1 of 2", "fail"), ("credential 2 of 2", "ok"), ("models", "warn")]


async def test_the_password_of_a_proxy_is_not_repeated(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """An upstream that echoes what a leaky proxy passed on shows neither the password nor its Basic form."""
    proxy = ConnectProxy()
    await proxy.start()
    try:
        settings = serving(
            upstream.base_url, proxy={"url": proxy.url, "username": "me", "password": {"env": "OTHER_SECRET"}}
        )
        await examined(tmp_path, settings)
        basic = (await proxy.asked()).partition(b"Basic ")[2].partition(b"\r\n")[0].decode()
        upstream.always(error(401, f'{{"error":{{"message":"Basic {basic} is bad"}}}}'.encode()))
        found = await examined(tmp_path, settings)
    finally:
        await proxy.close()
    assert len(basic) > 20
    assert not any(basic in each.found for each in found)
    assert any("Basic *** is bad" in each.found for each in found)
