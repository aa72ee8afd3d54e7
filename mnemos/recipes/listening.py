"""Clips with what is known of them, and suites that ask about them: real speech, real noise, synthetic voices.

    python -m mnemos.recipes.listening DATA --out listening --model models/listener
    mnemos listen rows listening/train --model models/chat --target self --target human --out listening/rows
    mnemos run listening/study.yaml

DATA holds third-party sets as their index files describe them: recordings of spoken digits by four speakers (fsdd),
Harvard sentences and impulse responses of rooms (asr_speechbrain), noises (noise_ms_snsd), and jfk.flac
(speech_llm_fixtures); a set that is absent is left out and named. Voices of espeak-ng, called as a program, say what no
recording here does: orders with an intent, by voices of two genders.

What is learned and what measures have no take of a digit, no sentence, no synthetic voice, no stretch of noise and no
room in common. The four speakers of digits are in both: who they are is what is asked.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.files import write_jsonl
from mnemos.recipes.listening_suites import suites_of, write_study
from mnemos.recipes.reproductions.adaptation import DIGITS, SPEAKERS, TEST_TAKES, read_digits
from mnemos.sources import audio
from mnemos.sources.augment import in_room, noisy, scaled
from mnemos.sources.voices import Voices

RATE = 16_000
PARTS = ("train", "test")
NOISES = {
    "AirConditioner_6": "air conditioner",
    "CopyMachine_2": "copy machine",
    "Neighbor_6": "neighbours",
    "VacuumCleaner_1": "vacuum cleaner",
}
SNR = (0, 5, 10, 20)
LEVELS_DB = (-42.0, -28.0, -18.0)
"""Decibels of full scale to which clips are brought: one of each step of `Volume`."""
LEARNED_SHARE = 0.6
"""Of each noise: what is learned has its beginning, what measures has the rest."""
JFK = "And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your country."

ORDERS: Mapping[str, Sequence[str]] = {
    "light": (
        "Please switch on the lamp in the kitchen.", "Make the bedroom a little darker.",
        "Turn off every light upstairs.", "I cannot see, give me some light here.",
        "Dim the lamp beside the sofa.", "It is too bright in the hall.",
    ),
    "music": (
        "Play something slow by a piano.", "Stop the song and start the next one.",
        "I would like to hear some jazz.", "Turn the radio up a bit.",
        "Put on the album from yesterday.", "Skip this song, please.",
    ),
    "alarm": (
        "Wake me at half past six tomorrow.", "Set a timer for ten minutes.",
        "Cancel the alarm on Sunday.", "Remind me in an hour to call Anna.",
        "Let me sleep until eight.", "Ring the bell when the cake is done.",
    ),
    "weather": (
        "Will it rain in Leeds this evening?", "How cold does it get tonight?",
        "Do I need a coat tomorrow?", "Tell me if the wind is strong outside.",
        "Is the sun coming out at noon?", "What will the sky be like on Friday?",
    ),
}  # fmt: skip
"""Orders by intent, in this project's own words; the last two of each measure."""
MEASURING = 2
VOICES = {
    "train": {
        "en-us+m1": ("male", "American"), "en-us+f2": ("female", "American"), "en-gb+m3": ("male", "British"),
        "en-gb+f3": ("female", "British"),
    },
    "test": {
        "en-us+m4": ("male", "American"), "en-us+f4": ("female", "American"), "en-gb+m7": ("male", "British"),
        "en-gb+f5": ("female", "British"),
    },
}  # fmt: skip
"""Voices of espeak-ng with their gender and accent."""

Known = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How many clips there are, for each part (train, test). takes: of each digit by each speaker. pairs: clips of two
    speakers. copies: voices that say each order."""

    takes: tuple[int, int] = (8, 2)
    pairs: tuple[int, int] = (40, 20)
    copies: tuple[int, int] = (2, 4)


@dataclass
class Made:
    """Clips of one part with their metadata."""

    clips: list[tuple[audio.Clip, Known]] = field(default_factory=list)

    def add(self, clip: audio.Clip, **known: Any) -> None:
        """A clip; what is None is not known."""
        self.clips.append((clip, {name: value for name, value in known.items() if value is not None}))


def make(data: Path, out: Path, sizes: Sizes | None = None, *, seed: int = 0, synthetic: bool = True) -> list[str]:
    """Write OUT/train and OUT/test with metadata.jsonl, and OUT/suites.yaml and OUT/forms.yaml with
    their rows below OUT/suites. Returns
    the names of sets that are absent. Raises DataError where all are."""
    sizes = sizes or Sizes()
    sources: dict[str, tuple[Path, Callable[[Path, Mapping[str, Made], Sizes, random.Random], None]]] = {
        "fsdd": (data / "fsdd", _digits),
        "asr_speechbrain": (data / "asr_speechbrain", _sentences),
        "jfk.flac": (data / "speech_llm_fixtures" / "audio" / "jfk.flac", _speech),
    }
    made = {part: Made() for part in PARTS}
    absent = [name for name, (place, _) in sources.items() if not place.exists()]
    for name, (place, read) in sources.items():
        if name not in absent:
            read(place, made, sizes, random.Random(f"{name} {seed}"))
    if synthetic:
        _orders(made, sizes, random.Random(f"orders {seed}"))
    if not any(one.clips for one in made.values()):
        raise DataError(f"{data}", f"has none of {', '.join(sources)}", "name the folder that holds these sets")
    noises = data / "noise_ms_snsd" / "flac"
    rooms = data / "asr_speechbrain" / "wav"
    absent += [name for name, place in (("noise_ms_snsd", noises),) if not place.is_dir()]
    for part, one in made.items():
        draw = random.Random(f"{part} {seed}")
        _worsen(one, part, _noises(noises, part), _rooms(rooms, part), draw)
        _write(out / part, one)
    suites_of(out, seed)
    return absent


def _digits(folder: Path, made: Mapping[str, Made], sizes: Sizes, draw: random.Random) -> None:
    recordings = read_digits(folder)
    people = json.loads((folder / "speakers.json").read_text(encoding="utf-8"))
    digits(recordings, people, made, sizes, draw)


def digits(
    recordings: Mapping[tuple[str, int, int], audio.Clip],
    people: Mapping[str, Mapping[str, str]],
    made: Mapping[str, Made],
    sizes: Sizes,
    draw: random.Random,
) -> None:
    """Single digits, and clips in which two speakers say one each. recordings: (speaker, digit, take) -> clip. people:
    speaker -> gender and accent."""
    for place, part in enumerate(PARTS):
        takes = [key for key in sorted(recordings) if (key[2] in TEST_TAKES) == (part == "test")]
        for speaker in SPEAKERS:
            about = people.get(speaker, {})
            for number, word in enumerate(DIGITS):
                own = [key for key in takes if key[:2] == (speaker, number)]
                for key in draw.sample(own, min(sizes.takes[place], len(own))):
                    made[part].add(
                        recordings[key], transcript=word, digit=word, speaker=speaker, gender=about.get("gender"),
                        accent=about.get("accent"), speakers=1, synthetic=False, take=key[2], set="fsdd",
                    )  # fmt: skip
        for _ in range(sizes.pairs[place] if takes else 0):
            first, second = draw.sample(SPEAKERS, 2)
            keys = [draw.choice([key for key in takes if key[0] == speaker]) for speaker in (first, second)]
            both = audio.joined([recordings[key] for key in keys], 0.2)
            words = " ".join(DIGITS[key[1]] for key in keys)
            made[part].add(both, transcript=words, speakers=2, synthetic=False, set="fsdd pairs")


def _sentences(folder: Path, made: Mapping[str, Made], sizes: Sizes, draw: random.Random) -> None:
    """Harvard sentences whose text was checked: one speaker's are learned, the other's measure."""
    for row in _index(folder):
        if row.get("kind") == "speech" and row.get("text_checked"):
            text = str(row["text_checked"]).capitalize() + "."
            part = "train" if row["speaker"] == "spk1" else "test"
            clip = audio.read(folder / str(row["file"]), rate=RATE)
            made[part].add(clip, transcript=text, speakers=1, synthetic=False, set="harvard")


def _index(folder: Path) -> Iterator[Mapping[str, Any]]:
    with gzip.open(folder / "index.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _speech(path: Path, made: Mapping[str, Made], sizes: Sizes, draw: random.Random) -> None:
    made["test"].add(
        audio.read(path, rate=RATE), transcript=JFK, gender="male", accent="American", speakers=1, synthetic=False,
        set="jfk",
    )  # fmt: skip


def _orders(made: Mapping[str, Made], sizes: Sizes, draw: random.Random) -> None:
    """Orders by synthetic voices, of drawn speed and pitch."""
    for place, part in enumerate(PARTS):
        voices = list(VOICES[part])
        for intent, sentences in ORDERS.items():
            for text in sentences[-MEASURING:] if part == "test" else sentences[:-MEASURING]:
                for voice in draw.sample(voices, min(sizes.copies[place], len(voices))):
                    rate, pitch = draw.choice((110, 160, 220)), draw.randint(30, 70)
                    spoken = Voices(voices=(voice,), rate=(rate, rate), pitch=(pitch, pitch)).say(text, voice)
                    gender, accent = VOICES[part][voice]
                    made[part].add(
                        audio.read(spoken, rate=RATE), transcript=text, intent=intent, gender=gender, accent=accent,
                        speakers=1, synthetic=True, set="espeak-ng",
                    )  # fmt: skip


def _noises(folder: Path, part: str) -> dict[str, audio.Clip]:
    """Each noise, the part's own stretch of it, by its name in words."""
    found = {}
    for name, title in NOISES.items():
        path = folder / f"{name}.flac"
        if path.is_file():
            clip = audio.read(path, rate=RATE)
            border = round(LEARNED_SHARE * len(clip.samples))
            found[title] = replace(clip, samples=clip.samples[:border] if part == "train" else clip.samples[border:])
    return found


def _rooms(folder: Path, part: str) -> list[audio.Clip]:
    paths = sorted(folder.glob("rir*.wav"))
    return [audio.read(path, rate=RATE) for path in paths[part == "test" :: 2]]


def _worsen(
    made: Made, part: str, noises: Mapping[str, audio.Clip], rooms: Sequence[audio.Clip], draw: random.Random
) -> None:
    """Half of the clips get a noise, a third of longer ones a room, and each a level; what is added is known. In an
    order that is drawn, so that the first few are like all."""
    draw.shuffle(made.clips)
    for at, (clip, known) in enumerate(made.clips):
        if rooms and clip.seconds > 1:
            echo = draw.random() < 1 / 3
            known["room"] = "echoing" if echo else "dry"
            clip = in_room(clip, draw.choice(rooms)) if echo else clip
        level = draw.choice(LEVELS_DB)
        if noises:
            known["noise"] = draw.choice(sorted(noises)) if draw.random() < 0.5 else "none"
        if known.get("noise", "none") != "none":
            beside = noises[known["noise"]]
            known["snr"] = draw.choice(SNR)
            clip = noisy(clip, beside, known["snr"], start=draw.randrange(len(beside.samples)))
        clip = replace(clip, samples=scaled(clip.samples, level).clip(-1, 1))
        made.clips[at] = clip, known


def _name(at: int) -> str:
    return f"{at:04}.flac"


def _write(folder: Path, made: Made) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for at, (clip, known) in enumerate(made.clips):
        audio.write(clip, folder / _name(at))
        rows.append({"file_name": _name(at), "id": f"{folder.name}-{at:04}", **known})
    write_jsonl(folder / "metadata.jsonl", rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m mnemos.recipes.listening", description="Write clips and suites.")
    parser.add_argument("data", type=Path, help="the folder of third-party sets")
    parser.add_argument("--out", type=Path, default=Path("listening"), help="the folder to write")
    parser.add_argument(
        "--takes", type=int, nargs=2, default=Sizes.takes, help="of a digit by a speaker: learned, test"
    )
    parser.add_argument("--pairs", type=int, nargs=2, default=Sizes.pairs, help="clips of two speakers: learned, test")
    parser.add_argument("--copies", type=int, nargs=2, default=Sizes.copies, help="voices an order: learned, test")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--no-synthetic", action="store_true", help="leave the voices of espeak-ng out")
    parser.add_argument("--model", type=Path, help="a model that listens: also write study.yaml, which teaches it")
    parser.add_argument("--cascade", type=Path, help="with --model, a cascade to stand beside it")
    given = parser.parse_args(arguments)
    sizes = Sizes(tuple(given.takes), tuple(given.pairs), tuple(given.copies))
    for name in make(given.data, given.out, sizes, seed=given.seed, synthetic=not given.no_synthetic):
        print(f"absent, and left out: {name}")
    print(given.out / "suites.yaml")
    if given.model is not None:
        print(write_study(given.out, given.model, given.cascade))


if __name__ == "__main__":
    main()
