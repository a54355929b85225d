"""efe: a network per ARC task, trained with terms of expected free energy, and a memory of solved tasks."""
