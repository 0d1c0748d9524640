"""The place of the plugin for SGLang; this release only has its entry point."""
