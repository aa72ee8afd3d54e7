"""Sound as discrete units: the nearest of K centres, frame by frame, in one hidden layer of an encoder of speech.

    states     the hidden states of a layer, for clips
    sample     a bounded sample of the frames of any number of clips
    centres    fitting the centres, looking up the nearest, and the directory that holds them

How units are written for a language model is `sources.units`.
"""
