"""EAGLE-3 drafts for Qwen3 and Qwen3-VL, served as they were trained."""

__version__ = "0.1.0"
