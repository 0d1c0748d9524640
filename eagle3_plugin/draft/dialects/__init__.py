"""One module a dialect, the same names in each; tables, no I/O.

NAME            what `--to` and `--dialect` call it
TITLE           who writes it
evidence(stored)            why these files look like this dialect (empty: they do not)
read_taps(ids, settle)      boundaries, None for the default, or a Problem
NORM_OUTPUT_IS_AMBIGUOUS    whether its trainer once meant something else by `norm_output`
and, where the dialect can be written,
write_config(config)        config.json
stored_name(canonical)      the tensor's name in this dialect
IDS             the convention of the tap ids that it writes (None: both, each in its place)
losses(config)              what the stock engine of this dialect would get wrong
"""
