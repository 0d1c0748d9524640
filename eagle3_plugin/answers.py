"""The seven answers to what a draft's files leave open, as options that four verbs share.

A verb has one parameter, `settle: Answers`; `with_answers` gives its command line the seven
options in that place. Two ways were weighed: seven parameters in each verb, which is what typer
expects, and this. The options have one spelling, and a new one needs one line.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from eagle3_plugin.draft.config import TargetConfig
    from eagle3_plugin.draft.dialects.settle import Settle

Option = str | None
OPTIONS: dict[str, Any] = {
    "dialect": Annotated[Option, typer.Option("--dialect", help="How the draft is written.")],
    "taps": Annotated[
        Option, typer.Option("--taps", help="Boundaries that the draft was trained on: 2,18,33.")
    ],
    "ids": Annotated[
        Option, typer.Option("--ids", help="What the stored tap ids are: output or boundary.")
    ],
    "residual": Annotated[
        Option,
        typer.Option("--residual", help="norm_before_residual: raw (false), normed (true)."),
    ],
    "feedback": Annotated[
        Option, typer.Option("--feedback", help="State fed back: prenorm or postnorm.")
    ],
    "image_embedding": Annotated[
        Option,
        typer.Option("--image-embedding", help="Seen at image positions: placeholder or visual."),
    ],
    "deepstack_tap": Annotated[
        Option,
        typer.Option("--deepstack-tap", help="Taps among visual features: before, after the add."),
    ],
}


class Answers:
    """What the user answered, to be parsed once the target is known."""

    def __init__(self, **given: str | None) -> None:
        self.given = given

    def __call__(self, target: TargetConfig | None) -> Settle:
        """The answers, with what the target tells."""
        from eagle3_plugin.draft.dialects.settle import parse_settle

        typed = {name: self.given.get(name) for name in OPTIONS}
        return parse_settle(typed, target.num_layers if target else None)


NONE_GIVEN = Answers()


def with_answers(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with the seven options in place of its parameter `settle`."""

    @functools.wraps(verb)
    def command(**values: Any) -> None:
        given = {name: values.pop(name) for name in OPTIONS}
        verb(**values, settle=Answers(**given))

    hints = get_type_hints(verb, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(verb).parameters.values():
        if parameter.name == "settle":
            parameters += [
                parameter.replace(name=name, default=None, annotation=kind)
                for name, kind in OPTIONS.items()
            ]
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    del command.__wrapped__
    return command
