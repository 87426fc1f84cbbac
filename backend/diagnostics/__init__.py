"""What works on this machine and what does not, what a failed picture means, and a report that names nobody.

Importing this loads neither torch nor numpy.
"""

from .explain import diagnose_generation_failure
from .finding import Finding
from .full import run_full_diagnostic
from .report import bug_report

__all__ = ["Finding", "bug_report", "diagnose_generation_failure", "run_full_diagnostic"]
