"""Models that can be asked: loading, generating, scoring, and arithmetic on their weights.

Importing a module of this room may load torch; importing the room itself does not.
"""
