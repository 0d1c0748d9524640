"""One module a dialect, the same names in each; tables, no I/O.

NAME            what `--to` and `--dialect` call it
TITLE           who writes it
evidence(stored)            why these files look like this dialect (empty: they do not)
read_taps(stored, settle)   boundaries, "default", or a Problem
and, where the dialect can be written,
write_config(config)        config.json
stored_name(canonical)      the tensor's name in this dialect
losses(config)              what the stock engine of this dialect would get wrong
"""
