"""A whole workshop in one file: read, compared with what there is, applied, and written again.

    reading      the file and those it names, as JSON; where a line of it is
    definition   what it says, checked section by section
    references   that everything it names is there
    steps        what has to be done so that there is what it says
    present      what there is
    setups       does it, for each owner
    exporting    what there is, as such a file; toml_text writes it

Import from the modules: whoever only reads a file needs no more than `reading`.
"""

__all__ = []
