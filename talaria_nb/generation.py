"""What generating text costs: the prompt and each further token, priced apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from talaria_nb.errors import PlanError
from talaria_nb.plan import checked_plan
from talaria_nb.resize import caches, context_of, tokens_of

if TYPE_CHECKING:
    from talaria_nb.devices import Device
    from talaria_nb.estimate import Estimate
    from talaria_nb.plan import Plan


@dataclass(frozen=True, slots=True)
class Generation:
    """What it takes to read a prompt and to write an answer.

    Attributes
    ----------
    prefill, decode
        One prediction of each program at the context length.
    prefill_calls
        Predictions that read the prompt.
    context
        Tokens that the key-value caches hold.
    prompt, generate
        Tokens read and written.
    """

    prefill: Estimate
    decode: Estimate
    prefill_calls: int
    context: int
    prompt: int
    generate: int

    @property
    def time_to_first_token_ms(self) -> float:
        """Time until the prompt is read, which gives the first token."""
        return self.prefill_calls * self.prefill.latency_ms

    @property
    def time_to_first_token_interval(self) -> tuple[float, float]:
        """80 % interval of `time_to_first_token_ms` (low, high)."""
        low, high = self.prefill.latency_interval
        return self.prefill_calls * low, self.prefill_calls * high

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second after the first, of all sequences of the batch."""
        return self.decode.throughput_per_s

    @property
    def tokens_per_s_interval(self) -> tuple[float, float]:
        """80 % interval of `tokens_per_s` (low, high)."""
        low, high = self.decode.latency_interval
        return 1000 * self.decode.batch / high, 1000 * self.decode.batch / low

    @property
    def total_ms(self) -> float:
        """Time from the prompt to the last token."""
        return self.time_to_first_token_ms + (self.generate - 1) * self.decode.latency_ms


def estimate_generation(
    prefill: Plan,
    decode: Plan,
    device: str | Device,
    compute_unit: str = "all",
    *,
    prompt: int = 512,
    generate: int = 128,
    context: int | None = None,
    batch: int | None = None,
) -> Generation:
    """Price a language model that reads a prompt with one program and writes with another.

    Parameters
    ----------
    prefill
        A plan of the program that reads several tokens at once: `tnb.load(path, function="prefill")`, or the module
        loaded with as many tokens. The second dimension of its first input is taken to be the tokens.
    decode
        A plan of the program that takes one token and has a key-value cache, as states or as inputs.
    device, compute_unit, batch
        As in `Plan.estimate`.
    prompt, generate
        Tokens read, and tokens written.
    context
        Tokens that the caches hold, without converting again; None for what `decode` was loaded at.

    Raises
    ------
    PlanError
        If one of them is no plan, `decode` has no cache or takes several tokens, or the tokens do not fit.

    Notes
    -----
    A prompt longer than the tokens of `prefill` is read in several predictions, a shorter one in one that is padded.
    Caches are taken to have a fixed length, as Core ML's states do: every step attends to all of it, however many
    tokens are there, so all steps take the same time. Sampling, and what happens between predictions, is not counted.
    No published latency of a whole decoder with a cache took part in the calibration but OPT-1.3B's prefill.
    """
    for count, what in ((prompt, "prompt"), (generate, "answer")):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            message = f"A {what} has a whole number of tokens, at least 1, not {count!r}."
            raise PlanError(message)
    writer = checked_plan(decode, "estimate_generation()").model.program
    reader = checked_plan(prefill, "estimate_generation()").model.program
    held = context_of(writer) if context is None else context
    step, chunk = tokens_of(writer), tokens_of(reader)
    if step != 1:
        message = f"{writer.name} takes {step} tokens a step; decode is a plan of the model loaded with one."
        raise PlanError(message)
    if prompt + generate > held:
        message = f"A prompt of {prompt} and an answer of {generate} tokens do not fit into a context of {held}."
        raise PlanError(message)
    cached = bool(caches(reader))
    if prompt > chunk and not cached:
        message = (
            f"{reader.name} reads {chunk} tokens and has no key-value cache to read a prompt of {prompt} in parts; "
            "load it with as many tokens."
        )
        raise PlanError(message)
    return Generation(
        prefill=prefill.estimate(device, compute_unit, batch=batch, context=held if cached else None),
        decode=decode.estimate(device, compute_unit, batch=batch, context=held),
        prefill_calls=math.ceil(prompt / chunk),
        context=held,
        prompt=prompt,
        generate=generate,
    )
