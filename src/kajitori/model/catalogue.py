"""The model catalogue: the shape of each known language model, and estimates for those that are not known.

Data in `models.json`, from the configuration files that the models are published with. A shape is all that memory and
speed depend on: sizes of layers and heads, experts, and how many bytes a weight takes as published.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import msgspec

from kajitori.base.errors import UsageError


class LanguageModel(msgspec.Struct, frozen=True):
    """One decoder-only transformer.

    parameters, active_parameters: in all, and those that one token passes (0: the same). latent_dim: numbers a layer
    that multi-head latent attention keeps a token, 0 for ordinary attention. experts: routed ones a layer, 0 for a dense
    model. bytes_per_parameter: of the weights as published. estimated: made from a parameter count, not from a config.
    """

    name: str
    parameters: float
    layers: int
    hidden_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    context_tokens: int
    aliases: tuple[str, ...] = ()
    active_parameters: float = 0.0
    latent_dim: int = 0
    experts: int = 0
    experts_per_token: int = 0
    expert_hidden_size: int = 0
    expert_layers: int = 0
    bytes_per_parameter: float = 2.0
    estimated: bool = False

    @property
    def active(self) -> float:
        """Parameters that one token passes."""
        return self.active_parameters or self.parameters

    @property
    def expert_parameters(self) -> float:
        """Parameters in routed experts: three matrices each (gate, up, down)."""
        return 3.0 * self.expert_layers * self.experts * self.hidden_size * self.expert_hidden_size

    def kv_bytes_per_token(self, bytes_per_value: float = 2.0) -> float:
        """Memory that one token of context takes, over all layers."""
        if self.latent_dim:
            return self.layers * self.latent_dim * bytes_per_value
        return 2.0 * self.layers * self.kv_heads * self.head_dim * bytes_per_value

    def weights_read(self, tokens: float) -> float:
        """Parameters that a step over so many tokens has to read: of the experts only those that some token chose."""
        if not self.experts:
            return self.parameters
        touched = 1.0 - (1.0 - self.experts_per_token / self.experts) ** tokens
        return self.parameters - self.expert_parameters * (1.0 - touched)


@cache
def models() -> dict[str, LanguageModel]:
    """All known models, by name."""
    data = Path(__file__).with_name("models.json").read_bytes()
    return {model.name: model for model in msgspec.json.decode(data, type=list[LanguageModel])}


# Endings that publishers add for another precision of the same model, with the bytes that a weight takes then.
_PRECISIONS = {
    "-fp8": 1.0,
    "-fp8-dynamic": 1.0,
    "-w8a8": 1.0,
    "-nvfp4": 0.56,
    "-fp4": 0.56,
    "-awq": 0.53,
    "-gptq-int4": 0.53,
}
_SIZE_IN_NAME = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?:-a(\d+(?:\.\d+)?)b)?(?![a-z0-9])")


def find_model(name: str, *, parameters: float = 0.0, active_parameters: float = 0.0) -> LanguageModel:
    """The shape of a model.

    A known name, with or without its publisher and in any case; endings such as `-FP8` change the precision only.
    For an unknown name, an estimate from the parameter count that is given, or that stands in the name (`x/Y-7B`,
    `Y-30B-A3B`). Raises UsageError with the known names where there is neither.
    """
    stem, bytes_per_parameter = _without_precision(name.strip().lower())
    model = _by_name().get(stem) or _by_name().get(stem.rpartition("/")[2])
    if model is None:
        model = _from_count(name, stem, parameters, active_parameters)
    if bytes_per_parameter:
        model = msgspec.structs.replace(model, bytes_per_parameter=bytes_per_parameter)
    return model


@cache
def _by_name() -> dict[str, LanguageModel]:
    names: dict[str, LanguageModel] = {}
    for model in models().values():
        for name in (model.name, *model.aliases):
            known = msgspec.structs.replace(model, name=name)
            for form in (name.lower(), name.lower().rpartition("/")[2]):
                names.setdefault(form, known)
                names.setdefault(form.removesuffix("-instruct"), known)
    return names


def _without_precision(name: str) -> tuple[str, float]:
    for ending, size in _PRECISIONS.items():
        if name.endswith(ending):
            return name.removesuffix(ending), size
    return name, 0.0


def _from_count(name: str, stem: str, parameters: float, active_parameters: float) -> LanguageModel:
    if not parameters:
        sizes = list(_SIZE_IN_NAME.finditer(stem.rpartition("/")[2]))
        if not sizes:
            raise UsageError(
                f"unknown model {name!r}",
                hint=f"give its number of parameters, or use one of {', '.join(models())}",
            )
        count, unit, active = sizes[-1].groups()
        parameters = float(count) * (1e9 if unit == "b" else 1e6)
        active_parameters = float(active) * 1e9 if active else 0.0
    return estimate_model(name, parameters, active_parameters)


def estimate_model(name: str, parameters: float, active_parameters: float = 0.0) -> LanguageModel:
    """A plausible shape for so many parameters.

    Dense: width and depth in the proportion of published models, hidden size about 100 times the number of layers,
    12 * layers * hidden^2 parameters, eight key/value heads of 128. Mixture of experts: the active part is shaped as a
    dense model and what is left are experts of which 8 in 128 are chosen. Raises UsageError for a count that is none.
    """
    if not 1e6 <= parameters <= 1e14 or not 0 <= active_parameters <= parameters:
        raise UsageError(
            f"model {name!r}: {parameters:g} parameters of which {active_parameters:g} are active make no model",
            hint="give between 1e6 and 1e14, the active ones not more than all",
        )
    body = active_parameters or parameters
    layers = max(2, round((body / 120_000) ** (1 / 3)))
    hidden_size = max(128, round((body / (12 * layers)) ** 0.5 / 128) * 128)
    heads = hidden_size // 128
    sparse = 0.0 < active_parameters < parameters
    expert_share = min((parameters - active_parameters) / (1 - 8 / 128), 0.97 * parameters)
    return LanguageModel(
        name=name,
        parameters=parameters,
        active_parameters=active_parameters,
        layers=layers,
        hidden_size=hidden_size,
        attention_heads=heads,
        kv_heads=min(8, heads),
        head_dim=128,
        context_tokens=32768,
        experts=128 if sparse else 0,
        experts_per_token=8 if sparse else 0,
        expert_hidden_size=max(1, int(expert_share / (3 * layers * 128 * hidden_size))) if sparse else 0,
        expert_layers=layers if sparse else 0,
        estimated=True,
    )
