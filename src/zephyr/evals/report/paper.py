"""What the paper reports (arXiv 2310.16944, "Zephyr: Direct Distillation of LM Alignment"), to set a run beside."""

from typing import NamedTuple


class Ablated(NamedTuple):
    """A row of the ablation (section 5): one epoch of each stage."""

    variant: str
    mt_bench: float
    alpaca_eval: float
    error: float
    """Standard error of alpaca_eval."""


ABLATION = (
    Ablated("dDPO", 4.76, 30.76, 1.63),  # without dSFT
    Ablated("dSFT-1", 6.64, 85.65, 1.23),
    Ablated("dSFT-2", 6.19, 78.54, 1.44),
    Ablated("dDPO+dSFT", 7.00, 86.07, 1.22),
)

# Model, size, alignment, MT-Bench, AlpacaEval win rate with its standard error.
MODELS: tuple[tuple[str, str, str, float | None, str], ...] = (
    ("StableLM-Tuned-alpha", "7B", "dSFT", 2.75, "–"),
    ("MPT-Chat", "7B", "dSFT", 5.42, "–"),
    ("Xwin-LM v0.1", "7B", "dPPO", 6.19, "87.83 (1.15)"),
    ("Mistral-Instruct v0.1", "7B", "dSFT", 6.84, "–"),
    ("Zephyr-7B-beta", "7B", "dDPO", 7.34, "90.60 (1.03)"),
    ("Falcon-Instruct", "40B", "dSFT", 5.17, "45.71 (1.75)"),
    ("Guanaco", "65B", "SFT", 6.41, "71.80 (1.59)"),
    ("Llama2-Chat", "70B", "RLHF", 6.86, "92.66 (0.91)"),
    ("Vicuna v1.3", "33B", "dSFT", 7.12, "88.99 (1.10)"),
    ("WizardLM v1.0", "70B", "dSFT", 7.71, "–"),
    ("Xwin-LM v0.1", "70B", "dPPO", None, "95.57 (0.72)"),
    ("GPT-3.5-turbo", "–", "RLHF", 7.94, "89.37 (1.08)"),
    ("Claude 2", "–", "RLHF", 8.06, "91.36 (0.99)"),
    ("GPT-4", "–", "RLHF", 8.99, "95.28 (0.72)"),
)

# The released DPO run (61,966 pairs, three epochs): our name of the figure, its words, the value.
RELEASED = (
    ("train_loss", "training loss", 0.2173),
    ("eval_loss", "held-out loss", 0.7496),
    ("eval_rewards/accuracies", "held-out accuracy", 0.781),
    ("eval_rewards/margins", "held-out margin", 3.80),
    ("eval_rewards/chosen", "held-out reward, chosen", -4.52),
    ("eval_rewards/rejected", "held-out reward, rejected", -8.32),
)

TASKS = ("arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc2")
"""Academic tasks of the Open LLM Leaderboard, as the harness calls them: 25, 10, 5 and no shots."""
ACADEMIC = {
    "Zephyr-7B-beta 7B": (62.03, 84.52, 61.44, 57.44),
    "StableLM-Tuned-alpha 7B": (31.91, 53.59, 24.41, 40.37),
    "MPT-Chat 7B": (46.50, 75.51, 37.62, 40.16),
    "Xwin-LM v0.1 7B": (56.57, 79.40, 49.98, 47.89),
    "Mistral-Instruct v0.1 7B": (54.52, 75.63, 55.38, 56.28),
    "Falcon-Instruct 40B": (61.60, 84.31, 55.45, 52.52),
    "Guanaco 65B": (65.44, 86.47, 62.92, 52.81),
    "Llama2-Chat 70B": (67.32, 87.33, 69.83, 44.92),
    "Vicuna v1.3 33B": (62.12, 83.00, 59.22, 56.16),
    "WizardLM v1.0 70B": (64.08, 85.40, 64.97, 54.76),
    "Xwin-LM v0.1 70B": (70.22, 87.25, 69.77, 59.86),
}
"""Model and size to percent of each task (section 5)."""
