"""The report: one page that shows what INT8 does to a model, to be opened in any browser and sent to anybody."""

from calibration.report.compared import Compared, Side
from calibration.report.side_by_side import SideBySide
from calibration.report.writing import write_comparison, write_report

__all__ = ["Compared", "Side", "SideBySide", "write_comparison", "write_report"]
