"""The base that ships with Espalier, and how it was made: `python -m trainables.builtin.pretrain`."""
