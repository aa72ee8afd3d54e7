"""Language models that listen: any encoder of sound, a bridge, any causal language model with a chat template.

bridges      the table of bridges: mlp, conv, qformer, window_qformer, cif
encoders     Whisper's and the convolutional encoders, frozen
features     what an encoder says of a sound, computed once and kept by content
spelling     a sound as token ids, between the words of a recogniser
transcripts  those words, kept by content
model        the three together: a model like any other causal language model
files        its directory: made anew, loaded, written
"""
