"""The package that SGLang imports its models from.

The plugin registers it. SGLang before 0.5.11 has no plugins: there
`SGLANG_EXTERNAL_MODEL_PACKAGE=eagle3_plugin.engines.sglang.models` does, and importing this
package then puts the config reader in place.
"""

from __future__ import annotations

from eagle3_plugin.engines.sglang.plugin import wrap_readers

wrap_readers()
