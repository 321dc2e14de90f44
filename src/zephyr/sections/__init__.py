"""The sections of a recipe: every setting once, its default and its explanation beneath it."""

from zephyr.sections.base import Section, Text
from zephyr.sections.choice import Choice
from zephyr.sections.cleaning import Cleaning
from zephyr.sections.cluster import Cluster, Secrets
from zephyr.sections.data import Prepare, Source
from zephyr.sections.distillation import Distillation
from zephyr.sections.endpoint import Endpoint
from zephyr.sections.evaluation import Academic, Audit, Evaluate, Safety
from zephyr.sections.gate import Condition, Gate, SafetyGate
from zephyr.sections.overlap import Contamination, Duplicates
from zephyr.sections.pairing import Pairing
from zephyr.sections.release import Deploy, Register
from zephyr.sections.sampling import Rate, Sample
from zephyr.sections.training import Dpo, Lora, Model, Sft, Training

__all__ = [
    "Academic",
    "Audit",
    "Choice",
    "Cleaning",
    "Cluster",
    "Condition",
    "Contamination",
    "Deploy",
    "Distillation",
    "Dpo",
    "Duplicates",
    "Endpoint",
    "Evaluate",
    "Gate",
    "Lora",
    "Model",
    "Pairing",
    "Prepare",
    "Rate",
    "Register",
    "Safety",
    "SafetyGate",
    "Sample",
    "Secrets",
    "Section",
    "Sft",
    "Source",
    "Text",
    "Training",
]
