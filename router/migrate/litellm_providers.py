"""What LiteLLM's providers are here: `groq/llama-3` begins with a name of this table, or is not carried.

A provider can be carried if it takes the requests of OpenAI's or Anthropic's API as they are. The addresses, and the
variables that hold credentials where the file gives none, are those that LiteLLM falls back to.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from router.migrate.account import Unusable


class Provider(NamedTuple):
    """How an upstream of one provider is declared."""

    preset: str | None = None
    base_url: str | None = None
    """Where it is, if the file does not say and the preset does not either."""
    variable: str | None = None
    """Holds the credential, if the file gives none; None: such a server may go without."""
    path: str = ""
    """What follows its address here, where LiteLLM adds it by itself."""
    model_prefix: str = ""
    """What LiteLLM puts before a model's name that does not begin so."""


PROVIDERS: Final[dict[str, Provider]] = {
    "openai": Provider("openai", variable="OPENAI_API_KEY"),
    "text-completion-openai": Provider("openai", variable="OPENAI_API_KEY"),
    "azure": Provider("azure-dated", variable="AZURE_API_KEY"),
    "azure_text": Provider("azure-dated", variable="AZURE_API_KEY"),
    "anthropic": Provider("anthropic", variable="ANTHROPIC_API_KEY", path="/v1"),
    "openrouter": Provider("openrouter", variable="OPENROUTER_API_KEY"),
    "deepseek": Provider("deepseek", variable="DEEPSEEK_API_KEY"),
    "groq": Provider("groq", variable="GROQ_API_KEY"),
    "mistral": Provider("mistral", variable="MISTRAL_API_KEY"),
    "gemini": Provider("gemini", variable="GEMINI_API_KEY"),
    "ollama": Provider("ollama", path="/v1"),
    "ollama_chat": Provider("ollama", path="/v1"),
    "hosted_vllm": Provider("vllm"),
    "litellm_proxy": Provider("litellm", path="/v1"),
    "custom_openai": Provider(),
    "openai_like": Provider(),
    "aiml": Provider(base_url="https://api.aimlapi.com/v1", variable="AIML_API_KEY"),
    "anyscale": Provider(base_url="https://api.endpoints.anyscale.com/v1", variable="ANYSCALE_API_KEY"),
    "cerebras": Provider(base_url="https://api.cerebras.ai/v1", variable="CEREBRAS_API_KEY"),
    "codestral": Provider(base_url="https://codestral.mistral.ai/v1", variable="CODESTRAL_API_KEY"),
    "dashscope": Provider(base_url="https://dashscope.aliyuncs.com/compatible-mode/v1", variable="DASHSCOPE_API_KEY"),
    "deepinfra": Provider(base_url="https://api.deepinfra.com/v1/openai", variable="DEEPINFRA_API_KEY"),
    "featherless_ai": Provider(base_url="https://api.featherless.ai/v1", variable="FEATHERLESS_AI_API_KEY"),
    "fireworks_ai": Provider(
        base_url="https://api.fireworks.ai/inference/v1",
        variable="FIREWORKS_API_KEY",
        model_prefix="accounts/fireworks/models/",
    ),
    "friendliai": Provider(base_url="https://api.friendli.ai/serverless/v1", variable="FRIENDLIAI_API_KEY"),
    "galadriel": Provider(base_url="https://api.galadriel.com/v1", variable="GALADRIEL_API_KEY"),
    "github": Provider(base_url="https://models.inference.ai.azure.com", variable="GITHUB_API_KEY"),
    "hyperbolic": Provider(base_url="https://api.hyperbolic.xyz/v1", variable="HYPERBOLIC_API_KEY"),
    "lambda_ai": Provider(base_url="https://api.lambda.ai/v1", variable="LAMBDA_API_KEY"),
    "llamafile": Provider(base_url="http://127.0.0.1:8080/v1"),
    "lm_studio": Provider(),
    "meta_llama": Provider(base_url="https://api.llama.com/compat/v1", variable="LLAMA_API_KEY"),
    "moonshot": Provider(base_url="https://api.moonshot.ai/v1", variable="MOONSHOT_API_KEY"),
    "nebius": Provider(base_url="https://api.studio.nebius.ai/v1", variable="NEBIUS_API_KEY"),
    "novita": Provider(base_url="https://api.novita.ai/v3/openai", variable="NOVITA_API_KEY"),
    "nscale": Provider(base_url="https://inference.api.nscale.com/v1", variable="NSCALE_API_KEY"),
    "nvidia_nim": Provider(base_url="https://integrate.api.nvidia.com/v1", variable="NVIDIA_NIM_API_KEY"),
    "perplexity": Provider(base_url="https://api.perplexity.ai", variable="PERPLEXITYAI_API_KEY"),
    "sambanova": Provider(base_url="https://api.sambanova.ai/v1", variable="SAMBANOVA_API_KEY"),
    "together_ai": Provider(base_url="https://api.together.ai/v1", variable="TOGETHERAI_API_KEY"),
    "vercel_ai_gateway": Provider(base_url="https://ai-gateway.vercel.sh/v1", variable="VERCEL_AI_GATEWAY_API_KEY"),
    "volcengine": Provider(base_url="https://ark.cn-beijing.volces.com/api/v3", variable="VOLCENGINE_API_KEY"),
    "wandb": Provider(base_url="https://api.inference.wandb.ai/v1", variable="WANDB_API_KEY"),
    "xai": Provider(base_url="https://api.x.ai/v1", variable="XAI_API_KEY"),
    "xinference": Provider(),
    "zai": Provider(base_url="https://api.z.ai/api/paas/v4", variable="ZAI_API_KEY"),
}

UNTRANSLATED: Final = (
    "its API is its own, which LiteLLM translates and this router does not: give an OpenAI-compatible address of it as"
    " openai/…, or keep LiteLLM for it, as an upstream with `preset: litellm`"
)

FAMILIES: Final = {
    "openai": re.compile(
        r"(ft:)?(gpt-|chatgpt-|o[1-9]|dall-e|text-embedding-|text-moderation|omni-moderation|tts-|whisper|babbage|davinci"
        r"|codex-|computer-use|sora-)"
    ),
    "anthropic": re.compile(r"claude-"),
}
"""Whose names LiteLLM knows without a provider before them."""


def split(model: str, given: str | None) -> tuple[str, str]:
    """Return the provider that serves a model of LiteLLM's, and the model's name there.

    Args:
        model: As it stands under `litellm_params`: `azure/gpt-4o-eu`, `gpt-4o`.
        given: What stands under `custom_llm_provider`.

    Raises:
        Unusable: No provider can be told from it, or it is none of `PROVIDERS`.
    """
    first, slash, rest = model.partition("/")
    if given is not None:
        provider, target = given, rest if slash and first == given else model
    elif slash and (first in PROVIDERS or not any(family.match(model) for family in FAMILIES.values())):
        provider, target = first, rest
    else:
        provider, target = next((name for name, family in FAMILIES.items() if family.match(model)), ""), model
    if not provider:
        raise Unusable("which provider serves it is not in its name: write provider/model, as in openai/gpt-4o")
    if provider not in PROVIDERS:
        raise Unusable(f"the provider {provider[:40]!r} cannot be carried: {UNTRANSLATED}")
    prefix = PROVIDERS[provider].model_prefix
    if prefix and not target.startswith((prefix.partition("/")[0] + "/", "*")):
        target = prefix + target
    return provider, target
