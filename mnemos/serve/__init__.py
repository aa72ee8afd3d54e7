"""One local page: runs as they go, answers side by side, blind votes, and a chat with two models.

It reads the files of runs, writes none of them, and keeps two files of its own: votes beside the runs, and in the
cache an index of answers that can be made again. What models and people wrote is data wherever it is shown.
"""
