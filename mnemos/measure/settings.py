"""What may be written in a suite: one settings record per kind, a sentence under every key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mnemos.core.names import Name
from mnemos.core.settings import AskedModelRef, FileRef, ModelRef, PowerSettings, Seed, Settings
from mnemos.rewards.checks import MatchName
from mnemos.rewards.verifiers import VERIFIERS, TextName

GRADED = tuple(name for name, one in VERIFIERS.items() if one.graded)
"""Ways to compare an answer that give scores between right and wrong."""


RowNumber = Annotated[int, Field(ge=1, le=1_000_000_000)]


class SuiteSettings(Settings):
    """Keys that every suite understands."""

    name: Name
    """The suite's name, unique within a study."""
    kind: str
    """How it asks and scores; `mnemos schema --suites` lists the kinds."""
    data: FileRef | None = None
    """File of items (.jsonl, .json, .yaml or .txt, also .gz), relative to the suite's file."""
    items: list[Any] | None = None
    """Items written in place."""
    of: str | None = None
    """Name of another suite: look at its answers instead of asking again."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Expected key -> column of the data file, where the names differ."""
    templates: dict[str, str] = Field(default_factory=dict)
    """Expected key -> a text in which {name} stands for the row's column of that name; other braces are left alone."""
    rows: tuple[RowNumber, RowNumber] | None = None
    """First and last row of the data that are read, counted from 1: the test part of a file that holds more."""
    limit: int | None = Field(None, ge=1, le=1_000_000_000)
    """Measure only this many items, drawn with seed 0."""
    part: Literal["development", "held_out"] | None = None
    """Measure only the items by which an arm may be chosen, or only those that are kept for the proof of it."""
    tolerance: float | None = Field(None, ge=0, le=1_000_000_000)
    """Change that still counts as kept: points out of 100, or the kind's own unit."""
    balanced: bool = False
    """Each category of the items (each task of a group of the harness) counts the same, however many items it has;
    otherwise each item does."""
    better: Literal["higher", "lower"] | None = None
    """Which direction is good; the kind knows unless said."""
    chat: bool = False
    """Put each `prompt` as a user turn through the chat template; otherwise it is raw text, as in
    prompt/completion rows. `messages` are always a chat."""
    system: str | None = None
    """System turn put before each chat."""

    @model_validator(mode="after")
    def _one_origin(self) -> SuiteSettings:
        origins = [name for name in ("data", "items", "of") if getattr(self, name) is not None]
        if len(origins) != 1 and self.kind != "lm_eval":
            raise ValueError(f"give exactly one of data, items, of (found {origins or 'none'})")
        if self.part is not None and self.data is None and self.items is None:
            raise ValueError("part: divides items of the suite's own, so it goes with data or items")
        if self.rows is not None and (self.data is None or self.rows[0] > self.rows[1]):
            raise ValueError("rows: goes with data, and is [first, last]")
        return self


class RuleSettings(Settings):
    """The rule adapter (arXiv:2409.14254): three rules added to the model's logits, each of which may be off."""

    end: bool = True
    """Ending becomes likelier with every token, by 15 nats behind 250."""
    repetition: bool = True
    """Tokens of the prompt and of the answer so far are less likely, by 1.5 nats."""
    words: bool = True
    """Markup and words that ask back or speak of oneself are less likely, marks of lists likelier."""


class GenerateSettings(SuiteSettings):
    """A suite whose answers are generated."""

    max_new_tokens: int = Field(64, ge=1, le=1_000_000)
    """Longest answer in tokens."""
    temperature: float = Field(0.0, ge=0)
    """0 is greedy, and then before and after differ by the model alone."""
    seed: Seed = 0
    """Seed of sampling, where temperature > 0."""
    power: PowerSettings | None = None
    """Sample whole answers from p^alpha; temperature is then the proposal's, 1 / alpha where it is 0."""
    stop: list[str] = Field(default_factory=list)
    """Texts that end an answer, which is cut before the first of them: how a base model shown examples is stopped."""
    rules: RuleSettings | None = None
    """Add the rules of the rule adapter to the model's logits, which makes a base model answer without training."""

    @model_validator(mode="after")
    def _one_way_to_decode(self) -> GenerateSettings:
        if self.power is not None and self.rules is not None:
            raise ValueError("power: and rules: are two ways to decode; give one")
        if "" in self.stop or (self.stop and self.power is not None):
            raise ValueError("stop: takes texts that are not empty, and does not go with power:")
        return self


class GeneratedSettings(GenerateSettings):
    """generated: the answer is compared with one or several references."""

    match: MatchName = "normalised"
    """How answers are compared; f1, chrf and rouge_l are graded, the others right or wrong. code and sql run the
    answer in a sandbox: against the tests in the reference, or against the right query on `database`."""
    samples: int = Field(1, ge=1, le=1000)
    """Answers that are drawn for each item; several need a temperature."""
    pass_at: int = Field(1, ge=1, le=1000)
    """With samples, k of pass@k: the chance that one of k answers is right, estimated without bias from all samples
    (arXiv:2107.03374)."""
    database: FileRef | None = None
    """With match: sql, the sqlite file (.gz too), relative to the suite's file."""
    json_schema: dict[str, Any] | None = None
    """With match: json, the JSON schema that every answer must satisfy; may be written `schema`."""

    @model_validator(mode="after")
    def _samples_differ(self) -> GeneratedSettings:
        if self.pass_at > self.samples:
            raise ValueError(f"pass_at: {self.pass_at} needs as many samples at least, and there are {self.samples}")
        if self.samples > 1 and self.temperature == 0 and self.power is None:
            raise ValueError("samples: greedy answers are all the same; set temperature, such as 0.8")
        if self.samples > 1 and self.match in GRADED:
            raise ValueError(f"samples: counts right answers, and match: {self.match} grades them")
        return self


class LinearProbeSettings(SuiteSettings):
    """linear_probe: can a linear classifier read the answer off the model's state behind the prompt?"""

    layer: int | None = Field(None, ge=0, le=10_000)
    """The layer whose state is read, 0 for the embeddings; the last unless given."""
    folds: int = Field(5, ge=2, le=100)
    """Parts of the items; each is asked of a classifier that was fitted on the others."""
    inverse_penalty: float = Field(1.0, gt=0, le=1e6)
    """Of the logistic regression: larger fits the other parts more closely."""


class ToolCallsSettings(GenerateSettings):
    """tool_calls: does the model call the right functions with the right arguments?"""

    tools_in: Literal["auto", "template", "prompt"] = "auto"
    """How tools are handed over: through the chat template, in words before the request, or (auto) through the
    template where it takes tools and in words where it does not."""
    no_call: bool = False
    """No call is right, whatever is asked: the functions are beside the point."""


class ToolStepsSettings(GenerateSettings):
    """tool_steps: does the model reach a goal by calling real functions, seeing what they give?"""

    functions: FileRef
    """Python file of the functions, each with `state` as its first parameter; they are run in the sandbox."""
    match: TextName = "normalised"
    """How the answer in words is compared with the item's."""
    max_calls: int = Field(10, ge=1, le=100)
    """Calls that an item may take, bad ones included."""
    tools_in: Literal["auto", "template", "prompt"] = "auto"
    """How functions and results are handed over; see tool_calls."""


class ToolWinsSettings(GenerateSettings):
    """tool_wins: does the model reach the goals of a suite of kind tool_steps better than another one?"""

    against: Literal["before"] | FileRef = "before"
    """The model before, or a file with another model's answers to that suite, as a run keeps them."""

    @model_validator(mode="after")
    def _of_another(self) -> ToolWinsSettings:
        if self.of is None:
            raise ValueError("of: names the suite of kind tool_steps whose answers are compared")
        return self


class IFEvalSettings(GenerateSettings):
    """ifeval: are all instructions of the prompt followed that a program can check?"""

    reading: Literal["strict", "loose"] = "strict"
    """strict: the answer as it stands; loose: also without its first line, its last, or asterisks."""


class BBHSettings(GenerateSettings):
    """bbh: questions of BIG-Bench Hard behind worked examples of their task."""

    prompts: FileRef
    """File of the examples: rows with task and prompt."""

    @model_validator(mode="after")
    def _rows_of_its_own(self) -> BBHSettings:
        if self.data is None:
            raise ValueError("data: names the file of questions, with task, input and target")
        return self


class HeardSettings(GenerateSettings):
    """A suite whose items are asked about a sound, by a model that hears."""

    audio: Literal["heard", "silence", "shuffled", "absent"] = "heard"
    """Which sound stands before the question: the item's own; as much silence; that of another item, by a fixed
    permutation; or none. What is scored without the own sound is what a model guesses."""
    audio_seed: Seed = 0
    """Seed of the permutation."""


class DynamicSuperbSettings(HeardSettings):
    """dynamic_superb: is the answer about a sound the label? A folder as Dynamic-SUPERB's tasks are, or rows of our
    own."""

    dimension: Literal["content", "semantics", "paralinguistics", "degradation", "speaker", "audio"] | None = None
    """What is asked about, for tables; that of instance.json or of each row unless given."""
    reading: Literal["exact", "parsed", "judged"] = "parsed"
    """exact: the answer is the label but for case and white space around it; parsed: the first option that the answer
    names is; judged: a model says whether it means the label."""
    judge: AskedModelRef | None = None
    """With reading: judged, the language model that is asked."""

    @model_validator(mode="after")
    def _judge_is_asked(self) -> DynamicSuperbSettings:
        if (self.judge is not None) != (self.reading == "judged"):
            raise ValueError("judge: goes with reading: judged, and with no other")
        return self


class SpeechIFEvalSettings(HeardSettings):
    """speech_ifeval: are instructions followed that a program can check, where the question is about a sound?"""

    form: Literal["audio", "description", "text"] = "audio"
    """What stands before the prompt: the sound; `seed`, what is known of it in a line of text; or nothing."""
    reading: Literal["strict", "loose"] = "strict"
    """strict: the answer as it stands, JSON without a fence of code; loose: also out of its fence, without its first
    line, its last, or asterisks."""

    @model_validator(mode="after")
    def _one_form(self) -> SpeechIFEvalSettings:
        if self.form != "audio" and self.audio != "heard":
            raise ValueError(f"audio: {self.audio} goes with form: audio, not {self.form}")
        return self


class RefusalSettings(GenerateSettings):
    """refusal: does the model refuse what it should, and answer what it should?"""

    refusal_markers: tuple[str, ...] = ()
    """Further phrases that mark a refusal, in any case."""
    judge: Literal["wording", "classifier", "model"] = "wording"
    """Who tells refusals from answers: the wording, a classifier that you trained, or a language model."""
    classifier: FileRef | None = None
    """With judge: classifier, the file that `python -m mnemos.recipes.refusal_classifier` wrote."""
    model: AskedModelRef | None = None
    """With judge: model, the language model that is asked."""

    @model_validator(mode="after")
    def _one_judge(self) -> RefusalSettings:
        for name in ("classifier", "model"):
            if (getattr(self, name) is not None) != (self.judge == name):
                raise ValueError(f"{name}: goes with judge: {name}, and with no other")
        return self


class JudgedSettings(GenerateSettings):
    """A suite whose answers a language model judges."""

    judge: AskedModelRef | list[AskedModelRef]
    """Who judges: directory, hub id or http://host:port/v1#name; a list is a panel."""
    prompt: FileRef | None = None
    """File of the judge's prompts (docs/judges.md); the shipped ones of this kind unless given."""
    verdict: Literal["log_probs", "text"] = "log_probs"
    """Verdicts from option probabilities, or read from what the judge writes."""
    raw: bool = False
    """Ask without a chat template, as option probabilities of a server need it."""
    max_unparsed: float = Field(0.2, ge=0, le=1)
    """With verdict: text, the share of verdicts that may be unreadable; above it the run stops."""
    references: FileRef | None = None
    """File of right answers that the judge is shown: rows with id and answer or turns, or FastChat's."""


class PairwiseSettings(JudgedSettings):
    """pairwise: is the answer better than another one? Both orders are asked, and a win needs both."""

    against: Literal["before"] | FileRef = "before"
    """The model before, or a file with an anchor's answers."""
    constitution: FileRef | None = None
    """A text file of principles, one a line; the shipped ones unless given."""


class GradedSettings(JudgedSettings):
    """graded, criteria: each answer, turn by turn, is rated on a scale; 0 points the lowest rating, 100 the highest."""


class ChoiceSettings(SuiteSettings):
    """choice, mc1, mc2: options are compared by their likelihood."""

    normalisation: Literal["none", "tokens", "bytes"] = "none"
    """Divide each option's log-probability by its length, or by nothing."""
    delimiter: str = " "
    """Put between a raw prompt and an option unless one of them has white space there already."""


class MMLUSettings(ChoiceSettings):
    """mmlu: questions of MMLU's subjects behind examples of their subject."""

    examples: FileRef | None = None
    """Folder or file of the examples, as published under dev."""
    shots: int = Field(5, ge=0, le=100)
    """Examples before each question, the first of its subject."""

    @model_validator(mode="after")
    def _rows_of_its_own(self) -> MMLUSettings:
        if self.data is None:
            raise ValueError("data: names MMLU's folder of test questions, or a file of rows")
        if self.shots and self.examples is None:
            raise ValueError("examples: names the folder of examples (dev); shots: 0 asks without them")
        return self


class LikelihoodSettings(SuiteSettings):
    """bits_per_byte, text_kl: how well the model predicts a text, or how far its predictions moved."""


class TranscribeSettings(SuiteSettings):
    """wer, cer: what a recogniser writes of sounds, against their transcripts."""

    normaliser: Literal["none", "basic", "english"] = "basic"
    """What both texts go through before: basic is lower case without marks, english also writes numbers as digits."""
    beam: int = Field(1, ge=1, le=100)
    """Hypotheses held at a time while writing; 1 is greedy."""


class AnswerErrorsSettings(GenerateSettings):
    """answer_wer, answer_cer: what a language model answers, against a transcript."""

    normaliser: Literal["none", "basic", "english"] = "basic"
    """What both texts go through before; see wer."""


class ClassifierSettings(GenerateSettings):
    """classifier: a text-classification model judges each answer."""

    model: ModelRef
    """Hugging Face directory or hub id of the classifier."""
    label: str
    """The class whose presence is scored, by the name in the classifier's id2label."""
    score: Literal["probability", "label"] = "probability"
    """probability of the label, or 1 where it is the most likely one."""


class LanguageSettings(GenerateSettings):
    """language: is the answer in the expected language?"""

    language: str | None = None
    """Expected ISO 639-1 code, for items that name none."""
    among: tuple[str, ...] = ()
    """Decide only among these codes: surer on short answers."""


class HarnessSettings(SuiteSettings):
    """lm_eval: a task of lm-evaluation-harness, or a group of tasks; limit takes the first documents
    of each."""

    task: str
    """The task's name."""
    include_path: FileRef | None = None
    """Folder of task YAML files, relative to the suite's file."""
    metric: str | None = None
    """The per-sample metric; the task's first one unless given."""
    num_fewshot: int | None = Field(None, ge=0, le=1_000_000_000)
    """Examples in the prompt; the task's own number unless given."""
    max_new_tokens: int = Field(256, ge=1, le=1_000_000)
    """Longest answer in tokens, where the task does not say."""
