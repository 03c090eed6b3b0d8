"""Values of the columns prefix and completed_by of an EXPOSURE table."""

from __future__ import annotations

NONE, REFERENCE = "none", "reference"
STUDENT, TEACHER = "student", "teacher"
