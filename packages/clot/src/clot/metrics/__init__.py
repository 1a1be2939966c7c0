"""What an evaluation says: choices against chance, orders against a random order, pairs that people tell apart."""

from ._choices import chance, choice_accuracy, parse_rate, wilson
from ._intervals import mean_interval
from ._pairs import PairAccuracy, pairwise_accuracy, separated_pairs
from ._ranks import expected_random_ndcg, kendall_tau, ndcg, normalised_ndcg, top1

__all__ = [
    "PairAccuracy",
    "chance",
    "choice_accuracy",
    "expected_random_ndcg",
    "kendall_tau",
    "mean_interval",
    "ndcg",
    "normalised_ndcg",
    "pairwise_accuracy",
    "parse_rate",
    "separated_pairs",
    "top1",
    "wilson",
]
