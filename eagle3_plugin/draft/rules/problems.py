"""Rules for what keeps a draft from being read: one a problem that the readers report.

The message is the reader's; here is what each stock engine does with such files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from eagle3_plugin.draft.fit import fit_problems
from eagle3_plugin.draft.rules.rule import REFUSES, Case, Rule, Seen, at, both, everywhere
from eagle3_plugin.errors import Problem

_SOUND = "files that make one draft, with one meaning"

_PARTS = {
    "mrope-section": "mrope_section",
    "image-embedding-width": "cannot have been given visual features",
    "d2t-missing": "without a vocabulary map",
    "embedding-missing": "yet embedding is",
    "taps-repeat": " repeat",
}
"""Rules of their own among the parts of one `config-inconsistent` problem, by their words."""

_SAID_ELSEWHERE = "but no list of them (the default has three)"
"""The part that the problem `taps-unknown` says better."""


def _problem_rule(
    id: str, what: str, vllm: str, sglang: str, source: str, expected: str, remedy: str = ""
) -> Rule:
    return Rule(
        id,
        what,
        everywhere("error"),
        _reported(id, expected),
        {"vllm": vllm, "sglang": sglang},
        source,
        plugin=REFUSES,
        remedy=remedy,
    )


def _reported(id: str, expected: str) -> Callable[[Case], Iterable[Seen]]:
    def look(case: Case) -> Iterable[Seen]:
        for problem in case.found.problems:
            for part in _parts(problem):
                if part.id == id:
                    yield Seen(part.message, expected, part.hint)

    return look


def _parts(problem: Problem) -> Iterable[Problem]:
    if problem.id != "config-inconsistent":
        return [problem]
    parts = [p for p in problem.message.split("; ") if not p.endswith(_SAID_ELSEWHERE)]
    return [Problem(_part_id(part), part, problem.hint) for part in parts]


def _part_id(part: str) -> str:
    return next((id for id, words in _PARTS.items() if words in part), "config-inconsistent")


def _fits(id: str, expected: str) -> Callable[[Case], Iterable[Seen]]:
    def look(case: Case) -> Iterable[Seen]:
        if case.config is None or case.target is None:
            return
        for problem in fit_problems(case.config, case.target):
            if problem.id == id:
                yield Seen(problem.message, expected, problem.hint)

    return look


def _stale_sidecar(case: Case) -> Iterable[Seen]:
    for problem in case.found.problems:
        if problem.id in ("sidecar", "sidecar-stale"):
            yield Seen(problem.message, "an eagle3.json written for this config.json", problem.hint)


_RUN = "seen in a run of vLLM 0.32"
_VLLM_TAPS = "vLLM v1/worker/gpu_model_runner.py:5251"
_SGLANG = "SGLang models/llama_eagle3.py"
_TAKES_ITS_OWN_READING = "takes its own reading of the two and says nothing"
_FORMATS = "configs of published drafts"

PROBLEMS: tuple[Rule, ...] = (
    _problem_rule("not-eagle3", "no fc.weight: another kind of model", "fails, or loads it as "
        "another kind of draft", "loads it as an ordinary model", _FORMATS,
        "an fc.weight that mixes the taps"),
    _problem_rule("dialect-unknown", "an architecture that no known trainer writes",
        "refuses a name that it does not know", "refuses a name that it does not know",
        "vLLM registry.py:658; SGLang: one name", "an architecture of a known dialect"),
    _problem_rule("config-field-missing", "a field that has no default is absent",
        "fills in transformers' default", "fills in transformers' default", _FORMATS,
        "every size in config.json", "Write the field into config.json."),
    _problem_rule("config-field-type", "a field has the wrong type", "fails, or takes it as it is",
        "fails, or takes it as it is", _FORMATS, "the type that the field has in transformers",
        "Mend the field in config.json."),
    _problem_rule("config-inconsistent", "fields of the config contradict each other",
        "fails late, or computes something else", "fails late, or computes something else",
        _FORMATS, _SOUND, "Mend config.json."),
    _problem_rule("unsupported", "a feature that this package does not read",
        "may run it; not judged", "may run it; not judged", "draft/dialects/shape.py",
        "an EAGLE-3 draft with Llama or Qwen3 layers",
        "Ask the engine's documentation: nothing here was judged."),
    _problem_rule("taps-ambiguous", "tap ids that can be output ids or boundaries",
        "reads them as boundaries, in silence", "reads them as output ids, in silence",
        f"{_VLLM_TAPS}; SGLang models/qwen3.py:778", "ids with one meaning"),
    _problem_rule("taps-conflict", "nested and top-level tap ids that disagree",
        "takes the top-level list", "takes the nested list plus one",
        f"{_VLLM_TAPS}; SGLang spec_aux_hidden_state.py:185",
        "nested = top level - 1"),
    _problem_rule("taps-unknown", "not three taps, and no list of them",
        "captures the three default taps", "captures the three default taps",
        "vLLM models/interfaces.py:1712; SGLang models/qwen3.py:785",
        "a list of as many taps as fc takes"),
    _problem_rule("taps-repeat", "the same tap twice", "captures it once: fc is too wide",
        "captures it once: fc is too wide", "vLLM interfaces.py:1578", "each tap once",
        "Give the boundaries that the draft was trained on with --taps."),
    _problem_rule("residual-ambiguous", "norm_before_residual absent in a speculators config, or "
        "given twice", "reads true when it is absent from a speculators config, and only the top "
        "level elsewhere", "does not know the field: always false",
        "vLLM speculators/algos.py:34; speculators 0.9.0", "norm_before_residual, once"),
    _problem_rule("norm-output-ambiguous", "norm_output true in a SpecForge checkpoint, whose "
        "meaning changed", "feeds the state after the norm back", "feeds the state after the norm "
        "back", "SpecForge pull request 879", "a flag with one meaning"),
    _problem_rule("norm-conflict", "fc's input norm is in the file and switched off, or two are on",
        "drops the norm in silence, or runs both", "drops the norm in silence, or runs both",
        "vLLM llama_eagle3.py; SGLang llama_eagle3.py", "the norm that was trained, switched on",
        "Set the flag in config.json as the draft was trained."),
    _problem_rule("num-layers", "the file has another number of layers than the config says",
        "leaves the missing layers uninitialised, or refuses the extra ones",
        "leaves the missing layers uninitialised, or drops the extra ones", _RUN,
        "as many layers as num_hidden_layers"),
    _problem_rule("tensor-missing", "a tensor is missing", "leaves linears uninitialised and norms "
        "at 1, in silence", "leaves it uninitialised, in silence",
        f"{_RUN}; {_SGLANG}:363", "every tensor of the draft",
        "The checkpoint is incomplete: download or export it again."),
    _problem_rule("tensor-extra", "a tensor that the draft has no place for",
        "refuses to load", "drops it in silence",
        f"{_RUN}; {_SGLANG}:363", "no other tensors",
        "The config describes another draft than the weights: mend config.json."),
    _problem_rule("tensor-shape", "a tensor of another shape than the config says",
        "fails with a shape error that names no tensor", "fails with a shape error that names no "
        "tensor", _RUN, "shapes that follow from the config",
        "The config describes another draft than the weights: mend config.json."),
    _problem_rule("tensor-twice", "two tensors with one meaning", "loads both, the last one wins",
        "loads both, the last one wins", "SGLang llama_eagle3.py:338; vLLM hf_to_vllm_mapper",
        "each tensor once"),
    _problem_rule("tensor-dtype", "weights that are not floating point: quantised",
        "loads it only with a quantisation config", "loads it only with a quantisation config",
        "vLLM issue 25883, SGLang issue 4351", "BF16, F16, F32 or F64"),
    _problem_rule("fc-width", "fc's width is not taps times the target's hidden size",
        "fails with a shape error that names no tensor", "fails with a shape error that names no "
        "tensor", _RUN, "num_taps * target_hidden_size columns"),
    _problem_rule("lm-head-missing", "no lm_head for a reduced vocabulary",
        "takes the target's head, in silence: nothing accepted", "leaves it uninitialised, or "
        "fails", f"{_RUN}; {_SGLANG}",
        "an lm_head of draft_vocab_size rows"),
    _problem_rule("embedding-missing", "a draft of another width than the target, without its own "
        "embedding or head", "leaves the embedding uninitialised, in silence",
        "leaves the embedding uninitialised, in silence", _RUN,
        "own embed_tokens and lm_head",
        "The checkpoint is incomplete: download or export it again."),
    _problem_rule("d2t-missing", "a reduced vocabulary without d2t",
        "takes the first ids of the vocabulary, in silence", "takes the first ids of the "
        "vocabulary, in silence", f"{_RUN}; {_SGLANG}",
        "a d2t of draft_vocab_size offsets",
        "The checkpoint is incomplete: download or export it again."),
    _problem_rule("d2t-length", "d2t of another length than the draft's vocabulary",
        "fails with a shape error that names no tensor", "maps wrong ids, or fails at a request",
        _RUN, "draft_vocab_size offsets",
        "The checkpoint is damaged, or draft_vocab_size in config.json is wrong."),
    _problem_rule("d2t-range", "d2t leads outside the vocabulary",
        "IndexError at the first request; negative ids wrap", "proposes ids that do not exist",
        _RUN, "ids inside the target's vocabulary"),
    _problem_rule("d2t-absolute", "d2t holds absolute ids instead of offsets",
        "adds the draft id to each, in silence: nothing accepted", "adds the draft id to each, in "
        "silence: nothing accepted", f"{_RUN}; {_SGLANG}:350",
        "offsets: target id minus draft id"),
    _problem_rule("d2t-duplicates", "two draft ids for one target id",
        "loses one of the two, in silence", "proposes the same id twice, in silence",
        "vLLM llama_eagle3.py compute_logits", "each target id once"),
    Rule("d2t-dtype", "d2t is not an integer tensor",
        at("warning", "error", "error", "error"), _reported("d2t-dtype", "I64 offsets"),
        {"vllm": "casts it to int64; not looked at any further here",
         "sglang": "computes ids as floating-point numbers, which index nothing"},
        f"{_RUN}; {_SGLANG}:350", plugin=REFUSES),
    _problem_rule("rope-conflict", "two spellings of the rope that disagree",
        _TAKES_ITS_OWN_READING, _TAKES_ITS_OWN_READING, "transformers 5.19 rope_parameters",
        "one spelling"),
    _problem_rule("rope-type", "a rope type that this package does not read", "may run it; not "
        "judged", "may run it; not judged", "draft/config.py", "default, linear, yarn or llama3",
        "Ask the engine's documentation: nothing here was judged."),
    _problem_rule("rope-parameter", "a rope parameter without a meaning for its type",
        "ignores it", "ignores it", "transformers 5.19", "parameters of the rope's type",
        "Remove the parameter from config.json, or set the type that it belongs to."),
    _problem_rule("rope", "rope settings that make no rope", "fails, or fills in a default",
        "fails, or fills in a default", "transformers 5.19", "a complete set of parameters",
        "Mend rope_scaling in config.json."),
    _problem_rule("mrope-section", "an M-RoPE section that does not sum to half of head_dim",
        "fails with a bare AssertionError", "changes the section until it fits, and prints a line",
        f"{_RUN}; SGLang rotary_embedding/mrope.py:84",
        "a section that sums to head_dim / 2",
        "Mend mrope_section in config.json: Qwen3-VL has [24, 20, 20] for head_dim 128."),
    _problem_rule("image-embedding-width", "visual features for a draft of another width than the "
        "target", "embeds the placeholder token", "gives it the visual features: the first image "
        "request fails", "SGLang models/llama_eagle3.py:218", "placeholder embeddings",
        "Answer --image-embedding placeholder; in eagle3.json, mend image_embedding."),
    _problem_rule("image-inputs-conflict", "an answer about image inputs that eagle3.json "
        "contradicts", "does not read eagle3.json", "does not read eagle3.json",
        "draft/read.py", "one of the two"),
    Rule("sidecar-stale", "eagle3.json is broken or belongs to another config.json",
        at("warning", "error", "warning", "error"), _stale_sidecar,
        both("does not read eagle3.json; judged by config.json alone"),
        "draft/sidecar.py", plugin=REFUSES),
    Rule("target-hidden-size", "the target has another hidden size", everywhere("error"),
        _fits("target-hidden-size", "the hidden size that fc was trained on"),
        {"vllm": "fails at the first request, or runs in silence with nothing accepted",
         "sglang": "fails at the first request"}, _RUN, plugin=REFUSES),
    Rule("target-vocabulary", "the target has another vocabulary", everywhere("error"),
        _fits("target-vocabulary", "the vocabulary that the draft was trained for"),
        {"vllm": "fails, or proposes other tokens in silence",
         "sglang": "proposes other tokens in silence"}, _RUN, plugin=REFUSES),
    Rule("taps-range", "a tap that the target does not have", everywhere("error"),
        _fits("taps-range", "boundaries of the target, each once"),
        both("fails at the first request"),
        _RUN, plugin=REFUSES),
)  # fmt: skip
