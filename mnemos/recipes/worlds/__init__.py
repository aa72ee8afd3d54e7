"""Worlds made by rule: invented people, requests, tasks, and real English."""
