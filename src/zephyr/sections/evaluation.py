"""What the models are asked, who judges the answers, and how far the judge is trusted."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from zephyr.sections.base import Positive, Section, Text

OWN_SAFETY = "pkg:zephyr.evals/safety/prompts.jsonl"


class Academic(Section):
    """Tasks of the language model evaluation harness (lm-eval), as on the Open LLM Leaderboard."""

    tasks: tuple[Text, ...] = ()
    """Names that the harness knows (arc_challenge, hellaswag, mmlu, truthfulqa_mc2, winogrande, …), or in `include`."""
    include: Text | None = None
    """Folder of the harness's task files (YAML) with their data: no hub is needed then."""
    shots: Mapping[str, NonNegativeInt] = {}
    """Examples before each question, per task; tasks not named take the task file's, else the leaderboard's."""
    limit: Positive | None = None
    """The first questions of each task only: for a try, not for a figure that is compared."""
    batch_size: Positive = 8
    endpoint: Text | None = None
    """Ask this endpoint (completions with log-probabilities) instead of the weights in process; its name is the
    model's in figures, its tokenizer the base model's."""
    peers: Mapping[str, Text] = {}
    """Other models by name: the harness's result files of them, for tasks of the same names."""


class Safety(Section):
    """Harmful requests, and harmless ones that sound alike."""

    prompts: tuple[Text, ...] = (OWN_SAFETY,)
    """Files in the forms of the public sets (docs/safety.md), or Zephyr's small one; empty: not measured."""
    limit: Positive | None = None
    """Prompts of each file, the first ones."""
    scoring: Literal["rules", "judge", "both"] = "rules"
    """Refusals told by their words, by the judge, or by both, with their agreement; the judge's word decides
    then, where it can be read."""
    max_tokens: Positive = 256


class Audit(Section):
    """Whether the judge can be trusted: more calls, over a sample of what it judged."""

    sample: int = Field(100, ge=0)
    """Comparisons, and grades, that are judged again; 0: no audit."""
    repeats: int = Field(2, ge=0)
    """How often each of them is judged again with another seed: stability."""
    second: Text | None = None
    """A second judge's endpoint: agreement, and what self-preference is measured against."""
    families: Mapping[str, Text] = {}
    """Maker by name of an endpoint, of a variant or of a reference's generator: who taught whom."""
    human: Text | None = None
    """Comparisons that people judged, with both answers: MT-Bench's human judgments or AlpacaEval's annotations."""
    anchor: Text | None = None
    """Answers of one fixed model (FastChat's form), judged anew in every run, so that a drifting judge shows."""
    anchor_questions: Text | None = None
    """The questions that they answer; null: evaluate.questions."""
    anchor_judgments: Text | None = None
    """What a judge said of them before (FastChat's form); null: the champion's evaluation is compared with."""


class Evaluate(Section):
    questions: Text | None = None
    """Two-turn questions in MT-Bench's form: `question_id, category, turns`. (Its `reference` is the authors' hint: the
    protocol doesn't show it to the judge.)"""
    references: Text | None = None
    """Reference answers in FastChat's form (reference_answer/gpt-4.jsonl), for the judge: math, reasoning, coding."""
    corrections: Text | None = None
    """Corrected ones that take the place of some; the score is then called score_corrected."""
    judge_prompts: Text | None = None
    """FastChat's judge_prompts.jsonl; null: Zephyr's own, in the same form."""
    instructions: Text | None = None
    """Single-turn prompts in AlpacaEval's form: `instruction`, and `output` of the reference."""
    difficulty: Text | None = None
    """Difficulty of each instruction, for the length-controlled win rate (AlpacaEval 2); null: fitted from the
    comparisons of several models with one opponent, else left out; the figure says which."""
    preference: Literal["verdict", "probabilities"] = "verdict"
    """verdict: the judge names the better answer, or a tie; probabilities: it says one letter, whose probability counts
    (AlpacaEval 2), where its endpoint gives log-probabilities."""
    answers: Mapping[str, Text | Annotated[tuple[Text, ...], Field(min_length=1)]] = {}
    """Peers by name, judged beside the run's models: their answers in FastChat's or AlpacaEval's form, or a file of
    each."""
    judge: Text = "teacher"
    temperatures: Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {
        "writing": 0.7,
        "roleplay": 0.7,
        "stem": 0.1,
        "humanities": 0.1,
        "extraction": 0.0,
        "math": 0.0,
        "coding": 0.0,
        "reasoning": 0.0,
    }
    """Per category, MT-Bench's own; categories not named take 0.7."""
    max_tokens: Positive = 1024
    batch_size: Positive = 16
    """Questions generated together."""
    judge_max_tokens: Positive = 2048
    bootstrap: Positive = 2000
    """Resamples for each interval, drawn by question."""
    academic: Academic = Academic()
    safety: Safety = Safety()
    audit: Audit = Audit()

    @model_validator(mode="after")
    def _used(self) -> Self:
        """A file that nothing would read is a mistake; that one benchmark is left out shall not be overlooked."""
        readers = {
            ("references", "corrections", "judge_prompts"): ("questions",),
            ("difficulty",): ("instructions",),
            ("answers",): ("questions", "instructions"),
        }
        idle = [
            f"{name}: is read beside {' or '.join(sets)} only; name {'one of them' if len(sets) > 1 else 'them'}, "
            "or leave it out"
            for names, sets in readers.items()
            for name in names
            if getattr(self, name) and not any(getattr(self, one) for one in sets)
        ]
        if idle:
            raise ValueError("; ".join(idle))
        return self

    @property
    def judging(self) -> bool:
        """Whether the judge is asked anything."""
        return bool(self.questions or self.instructions or (self.safety.prompts and self.safety.scoring != "rules"))

    @property
    def asked(self) -> Mapping[str, str]:
        """Endpoints that judge or are asked, by the setting that names them."""
        audited = self.audit.sample and (self.questions or self.instructions)
        wanted = {
            "evaluate.judge": self.judge if self.judging else None,
            "evaluate.audit.second": self.audit.second if audited else None,
            "evaluate.academic.endpoint": self.academic.endpoint if self.academic.tasks else None,
        }
        return {setting: name for setting, name in wanted.items() if name}

    @property
    def judges(self) -> tuple[str, ...]:
        """Endpoints that judge or are asked."""
        return tuple(self.asked.values())

    @property
    def peers(self) -> tuple[tuple[str, str], ...]:
        """Name and location of every file of `answers`."""
        given = {name: (own,) if isinstance(own, str) else own for name, own in self.answers.items()}
        return tuple((name, location) for name, own in given.items() for location in own)

    @property
    def locations(self) -> tuple[str, ...]:
        """All files that an evaluation reads."""
        audit = (self.audit.human, self.audit.anchor, self.audit.anchor_questions, self.audit.anchor_judgments)
        audit = audit if self.audit.sample else (None,) * 4
        named = (self.questions, self.references, self.corrections, self.judge_prompts, self.instructions)
        academic = (self.academic.include, *self.academic.peers.values())
        given = (
            *named,
            self.difficulty,
            *(location for _, location in self.peers),
            *academic,
            *self.safety.prompts,
            *audit,
        )
        return tuple(dict.fromkeys(location for location in given if location))
