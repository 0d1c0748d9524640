"""Every known silent failure as a rule: data plus one small function each.

rule      what a rule is and what it is shown
stock     what the stock engines take from a config
problems  what keeps a draft from being read
weights   values, names and types of tensors
form      names, absent sizes, where head and embedding come from
misread   what a stock engine reads otherwise than trained
pair      the draft together with its target
image     what it is given where its target takes images
setting   the engine's release, the plugin, the answers given
"""

from __future__ import annotations

from eagle3_plugin.draft.rules.form import FORM
from eagle3_plugin.draft.rules.image import IMAGE
from eagle3_plugin.draft.rules.misread import MISREAD
from eagle3_plugin.draft.rules.pair import PAIR
from eagle3_plugin.draft.rules.problems import PROBLEMS
from eagle3_plugin.draft.rules.rule import Rule
from eagle3_plugin.draft.rules.setting import SETTING
from eagle3_plugin.draft.rules.weights import WEIGHTS

RULES: tuple[Rule, ...] = (*SETTING, *PROBLEMS, *WEIGHTS, *FORM, *MISREAD, *PAIR, *IMAGE)
