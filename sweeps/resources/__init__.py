"""What a sweep runs on: hosts, worker groups, Ray clusters, money."""
