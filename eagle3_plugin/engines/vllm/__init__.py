"""The plugin for vLLM: entry point, draft models, and what stock vLLM gets wrong."""
