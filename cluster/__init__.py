"""Machines for Ray: a RunPod provider for `ray up`. It imports no other package of the repository."""
