"""report.html: what a person looks at after a build, in one self-contained file."""

from quantface_export.report.data import (
    PANELS,
    Distribution,
    LayerRow,
    Picture,
    ReportData,
    SizeRow,
)
from quantface_export.report.write import write_report

__all__ = ["PANELS", "Distribution", "LayerRow", "Picture", "ReportData", "SizeRow", "write_report"]
