"""The resources of a sweep: hosts, worker groups, Ray clusters, money."""
