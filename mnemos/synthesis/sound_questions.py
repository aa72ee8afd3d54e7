"""What is asked about sounds: attributes with their names in a seed line, and questions about each.

The wording is this project's own. A question is about one attribute, so that a clip is asked only what is known of it
and a short label ("female", "seven") answers it; `CAPTIONS` asks for everything at once (arXiv:2409.20007).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mnemos.sources.described import Described

CAPTION = "caption"
"""What a row is about that is about no attribute."""
CAPTIONS = ("What can you hear from the audio?",)
"""The one question of DeSTA2, to which a description of everything is the answer."""

PITCH_HZ, VOLUME_DB, SPEED = (135.0, 190.0), (-35.0, -20.0), (1.5, 3.0)
"""Below the first number low (quiet, slow), from the second on high (loud, fast), between them medium. Hz; dB of full
scale; words a second."""


@dataclass(frozen=True)
class Attribute:
    """title: its name in a seed line, empty for what a transcript says already. value: its words for a clip, None
    where it is not known. questions: each asks for it alone."""

    title: str
    value: Callable[[Described], str | None]
    questions: tuple[str, ...]


def _of(*columns: str, unit: str = "") -> Callable[[Described], str | None]:
    """The first of these columns that the clip's row has."""

    def value(clip: Described) -> str | None:
        found = next((clip.known[name] for name in columns if name in clip.known), None)
        return None if found is None else f"{found}{unit}"

    return value


def _level(number: float | None, bounds: tuple[float, float], names: tuple[str, str, str]) -> str | None:
    return None if number is None else names[(number >= bounds[0]) + (number >= bounds[1])]


ATTRIBUTES: Mapping[str, Attribute] = {
    "transcript": Attribute(
        "",
        lambda clip: clip.transcript or None,
        (
            "What does the speaker say?",
            "Write down the words that are spoken.",
            "Transcribe the speech.",
            "Repeat what was said, word for word.",
        ),
    ),
    "digit": Attribute(
        "",
        _of("digit"),
        ("Which digit is spoken?", "Name the number that you hear.", "What number does the speaker say?"),
    ),
    "speaker": Attribute(
        "Speaker", _of("speaker"), ("Who is speaking?", "Whose voice is this?", "Name the person who speaks.")
    ),
    "gender": Attribute(
        "Gender",
        _of("gender"),
        ("Is the speaker male or female?", "What is the gender of the voice?", "Does a man or a woman speak?"),
    ),
    "age": Attribute("Age", _of("age"), ("How old does the speaker sound?", "Guess the age of the speaker.")),
    "accent": Attribute(
        "Accent",
        _of("accent"),
        ("Which accent does the speaker have?", "Where might the speaker come from, going by the accent?"),
    ),
    "emotion": Attribute(
        "Emotion",
        _of("emotion"),
        ("How does the speaker feel?", "Which emotion is in the voice?", "Describe the mood of the speaker."),
    ),
    "intent": Attribute("Intent", _of("intent"), ("What does the speaker want?", "Name the intent of this request.")),
    "pitch": Attribute(
        "Pitch",
        lambda clip: _level(clip.pitch_hz, PITCH_HZ, ("low", "medium", "high")),
        ("Is the voice low, medium or high?", "How high is the pitch of the voice?"),
    ),
    "volume": Attribute(
        "Volume",
        lambda clip: _level(clip.volume_db, VOLUME_DB, ("quiet", "medium", "loud")),
        ("How loud is the recording?", "Is the clip quiet, medium or loud?"),
    ),
    "speed": Attribute(
        "Speed",
        lambda clip: _level(clip.words_per_second, SPEED, ("slow", "medium", "fast")),
        ("How fast does the speaker talk?", "Is the speech slow, medium or fast?"),
    ),
    "noise": Attribute(
        "Background noise",
        _of("noise"),
        ("What noise is in the background?", "Which sound can be heard beside the voice?"),
    ),
    "snr": Attribute(
        "SNR",
        _of("snr", unit=" dB"),
        ("How strong is the noise beside the voice, in decibels?", "What is the signal-to-noise ratio?"),
    ),
    "room": Attribute(
        "Room",
        _of("room"),
        ("In what kind of room was this recorded?", "Describe the room in which the speaker stands."),
    ),
    "speakers": Attribute(
        "Number of speakers",
        _of("speakers", "number_of_speakers", "num_speakers"),
        ("How many people speak?", "Count the voices in the recording."),
    ),
    "duration": Attribute(
        "Duration",
        lambda clip: f"{clip.seconds:.1f} seconds",
        ("How long is the clip?", "How many seconds does the recording last?"),
    ),
}
"""Every attribute by name, in the order in which a seed line gives them."""


MOST_OPTIONS = 16
"""Labels of an attribute beyond which a question does not name them."""


def with_options(question: str, labels: Iterable[str]) -> str:
    """A question that names the possible answers as Dynamic-SUPERB's do: "Who speaks? The answer could be A, B, or C."
    The question alone where there are fewer than two labels, or more than `MOST_OPTIONS`."""
    names = sorted(set(labels))
    if not 2 <= len(names) <= MOST_OPTIONS:
        return question
    return f"{question} The answer could be {', '.join(names[:-1])}, or {names[-1]}."


def labels_of(clips: Iterable[Described]) -> dict[str, set[str]]:
    """Attribute -> the labels that these clips have."""
    out: dict[str, set[str]] = {name: set() for name in ATTRIBUTES}
    for clip in clips:
        for name, one in ATTRIBUTES.items():
            if label := one.value(clip):
                out[name].add(label)
    return out


def description(clip: Described, attributes: Iterable[str] = ATTRIBUTES) -> str:
    """What is known of a clip: ``"text" (Gender: female, Duration: 3.5 seconds)``; without the quotation where nothing
    is transcribed. attributes: the names of those that stand in the brackets."""
    asked = set(attributes)
    known = [
        f"{one.title}: {value}"
        for name, one in ATTRIBUTES.items()
        if name in asked and one.title and (value := one.value(clip))
    ]
    # A quotation mark inside would end the quotation early.
    words = clip.transcript.replace('"', "'")
    text = f'"{words}" ' if words else ""
    return f"{text}({', '.join(known)})"


def seed_line(clip: Described) -> str:
    """What is known of a clip as one line of text, in DeSTA2's form (arXiv:2409.20007):
    ``[00:00:00 - 00:00:04]: "text" (Gender: female, Duration: 3.5 seconds)``. The end is rounded up to a second."""
    end = max(1, -int(-clip.seconds // 1))
    times = f"[00:00:00 - {end // 3600:02}:{end // 60 % 60:02}:{end % 60:02}]"
    return f"{times}: {description(clip)}"
