"""Sound for rows that have none, and rows that sound worse."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from pydantic import Field

from mnemos.core.method import method
from mnemos.core.plan import Plan
from mnemos.core.settings import DataRef, Seed
from mnemos.sources.voices import ESPEAK, Spoken, Voices
from mnemos.sources.worsened import Worsened

Two = tuple[Annotated[int, Field(ge=1, le=1000)], Annotated[int, Field(ge=1, le=1000)]]
Decibels = Annotated[float, Field(ge=-60, le=100)]


@method(paper="arXiv:2309.10707", changes={"examples"}, off={"copies": 0})
def tts(
    plan: Plan,
    *,
    command: str = ESPEAK,
    voices: tuple[str, ...] = ("en-us", "en-gb", "en-us+f3", "en-gb+m3", "en-us+f5"),
    copies: Annotated[int, Field(ge=0, le=1000)] = 1,
    rate: Two = (130, 190),
    pitch: Two = (30, 70),
    seed: Seed = 0,
) -> Plan:
    """Let a program read the rows' texts aloud, and learn from what it says: a domain of which there is only text.

    command: the program and its words, with places {out} (the file it writes), {text}, {voice}, {rate} and {pitch};
    without {text} the text comes by standard input. It is run without a shell.
    voices: what stands for {voice}; rows take them in turn.
    copies: voices that speak each text; 0 turns the method off.
    rate: words a minute, drawn between the two.
    pitch: 0 to 99, drawn between the two.
    seed: added to the arm's seed where rate and pitch are drawn, and where voices begin.

    The answer of a row is spoken (of a document, all of it), and rows that have sound stay as they are, so that real
    speech may stand beside. What was spoken once is kept in the cache by content.

    Trap: a recogniser that learns synthetic speech forgets how people sound. Keep what hears as it was (`freeze`, `ewc`
    on its encoder), `replay` real speech, or put back what is real with the vector of arXiv:2406.02925:
    `weights: {expression: "after + 0.5 * (real - synthetic)"}` of two models of the source domain.

    Deviations from the paper: 1. texts are given; `corpus_synthesis` before it has a language model write them.
    2. espeak-ng is a formant synthesiser, far from the paper's neural voices; piper's are nearer.

    Raises UsageError where the program is not there, DataError where it fails or writes nothing.
    """
    if copies == 0:
        return plan
    spoken = Spoken(plan.examples, Voices(command, voices, rate, pitch), copies, plan.seed + seed)
    return dataclasses.replace(plan, examples=spoken)


@method(paper="arXiv:1909.08050", changes={"examples"}, off={"share": 0.0}, example={"speed": (0.9,)})
def augment(
    plan: Plan,
    *,
    share: Annotated[float, Field(ge=0, le=1)] = 1.0,
    noise: DataRef | None = None,
    snr: tuple[Decibels, Decibels] = (5.0, 20.0),
    room: DataRef | None = None,
    speed: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] = (),
    seed: Seed = 0,
) -> Plan:
    """Make the rows' sounds worse before they are learned: noise at a level, the echo of a room, another speed.

    share: of the rows, drawn by id; 0 turns the method off.
    noise: a folder of sounds, or one; a stretch of one of them is added to each drawn row.
    snr: decibels of speech above noise, drawn evenly between the two.
    room: a folder of impulse responses, or one.
    speed: factors, of which one is drawn; 0.9, 1.0, 1.1 are usual. Pitch moves along.
    seed: added to the arm's seed where rows, sounds and levels are drawn.

    Speech and noise are brought to -25 dB of full scale before they are mixed, as MS-SNSD does.

    Trap: a row is made worse once and is the same in every pass; more variety is more rows, or another seed.

    Deviation from the paper: 1. noises are drawn for each row, where the paper writes every level of every noise.
    """
    nothing = noise is None and room is None and not speed
    if share == 0 or nothing:
        return plan
    worse = Worsened(plan.examples, share, noise, snr, room, speed, plan.seed + seed)
    return dataclasses.replace(plan, examples=worse)
