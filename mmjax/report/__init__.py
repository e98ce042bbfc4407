"""Pictures and pages for people: intervals, charts, attention, the report."""
