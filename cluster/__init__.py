"""Machines for Ray: a RunPod provider for `ray up`. Imports nothing of the house, as the head imports it alone."""
