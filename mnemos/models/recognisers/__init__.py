"""Recognisers of speech: models that hear a clip and write what was said.

    base          the protocol: `Recogniser`, `Features`, batches
    ctc           any CTC class of transformers (Wav2Vec2, HuBERT, WavLM, Data2Vec, Wav2Vec2-BERT, Parakeet, …)
    whisper_ctc   a Whisper encoder with a linear CTC head, which mnemos trains itself
    sequence      Whisper, which writes token by token
    decoding      from log-probabilities to tokens: greedy, and a prefix beam with a language model
    load          a directory -> the recogniser that it holds
    wrap          a network that is loaded or in training -> the recogniser around it
    classes       which class of transformers loads which architecture

What a method that adapts while it listens needs::

    recogniser = load("models/ears")               # eval mode, on the GPU if there is one
    clip = audio.read("a.wav")                     # any rate; `features` resamples
    features = recogniser.features([clip])         # made once; gradients do not reach behind it
    for _ in range(10):
        logits = recogniser.logits(features)       # float[B, T, V], with gradients to recogniser.network
        frames = features.frames                   # int64[B]: how many of the T are real, the rest is padding
        ...                                        # blank = recogniser.blank; step an optimiser on
                                                   # recogniser.network.parameters(), which never holds one twice
    text = recogniser.decode(logits, frames)       # greedy; beam=5 for a beam, language_model= for its score

`recogniser.front(features)` is what stands behind the convolutions (float[B, T, H]) and
`recogniser.logits_behind(front, features)` the rest, for methods that move no convolution: front can be computed once.
Training and adapting use the same `loss(clips, texts)`: nats per target token.
"""
