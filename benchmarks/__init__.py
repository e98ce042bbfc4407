"""Timings of mmjax beside its peers; see README.md in this folder."""
