"""What a server offers: one model, drawn from by each sampler that the server's settings allow."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from powercut.engines.protocol import Engine
from powercut.errors import SettingError, did_you_mean
from powercut.integrations.foreign import SamplerFor
from powercut.samplers import SAMPLERS
from powercut.samplers.named import owners_of
from powercut.server.refusals import Refusal

log = logging.getLogger("powercut")


class Offer:
    """The model ``name`` of ``engine``: ``NAME`` by the sampler called ``default``, and ``NAME@SAMPLER``.

    Each sampler has those of ``settings`` that are settings of its own. One that cannot have them is not offered, and a
    note says why. ``patterns``: whether requests may give regular expressions.

    Raises SettingError if the default sampler cannot be built so.
    """

    def __init__(
        self, name: str, engine: Engine, default: str, settings: Mapping[str, Any], *, patterns: bool = False
    ) -> None:
        self.name, self.engine, self.default, self.patterns = name, engine, default, patterns
        self.samplers: dict[str, SamplerFor] = {}
        remedy = "by their names in the request"
        self.samplers[default] = SamplerFor(default, settings, remedy)
        for sampler in SAMPLERS:
            own = {setting: value for setting, value in settings.items() if sampler in owners_of(setting)}
            try:
                self.samplers.setdefault(sampler, SamplerFor(sampler, own, remedy))
            except SettingError as error:
                log.warning("%s@%s is not offered: %s", name, sampler, error)

    @property
    def ids(self) -> list[str]:
        """The ids of models that a request may name."""
        return [self.name, *(f"{self.name}@{sampler}" for sampler in self.samplers)]

    def check_model(self, model: str | None) -> None:
        """Raise Refusal for the id of a model that is not offered."""
        if model is not None and model not in self.ids:
            hint = did_you_mean(model, self.ids)
            what = f"there is no model {model!r} here{hint}: it is {self.name!r}, and /v1/models lists it by sampler"
            raise Refusal(404, what, param="model", code="model_not_found")

    def choose(self, model: str | None, sampler: str | None) -> SamplerFor:
        """The sampler that a request's ``model`` and its field ``sampler`` ask for. Raises Refusal."""
        self.check_model(model)
        asked = None if model is None or model == self.name else model.removeprefix(f"{self.name}@")
        if asked and sampler and asked != sampler:
            raise Refusal(400, f"sampler is {sampler!r}, and model asks for {asked}: give one of them", param="sampler")
        wanted = asked or sampler or self.default
        if wanted not in self.samplers:
            hint = did_you_mean(wanted, self.samplers)
            known = ", ".join(self.samplers)
            raise Refusal(400, f"there is no sampler {wanted!r}{hint}: the samplers are {known}", param="sampler")
        return self.samplers[wanted]
