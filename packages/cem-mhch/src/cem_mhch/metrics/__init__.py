"""Metrics of handoff: which turns, how well timed, at what cost."""

from ._alarms import alarm_report as alarm_report
from ._budget import BudgetPoint as BudgetPoint
from ._budget import cost_at_budget as cost_at_budget
from ._budget import cost_recall_curve as cost_recall_curve
from ._budget import threshold_for_rate as threshold_for_rate
from ._calibration import Reliability as Reliability
from ._calibration import calibration_error as calibration_error
from ._calibration import reliability as reliability
from ._golden import golden_transfer as golden_transfer
from ._golden import golden_transfer_f as golden_transfer_f
from ._golden import golden_transfer_recall as golden_transfer_recall
from ._ranking import pr_auc as pr_auc
from ._ranking import roc_auc as roc_auc
from ._report import handoff_report as handoff_report
from ._report import timing_report as timing_report

__all__ = [
    "BudgetPoint",
    "Reliability",
    "alarm_report",
    "calibration_error",
    "cost_at_budget",
    "cost_recall_curve",
    "golden_transfer",
    "golden_transfer_f",
    "golden_transfer_recall",
    "handoff_report",
    "pr_auc",
    "reliability",
    "roc_auc",
    "threshold_for_rate",
    "timing_report",
]
