"""All families of fusions, in one table."""

import cases_attention
import cases_bilinear
import cases_early
import cases_relations
import cases_transformers

CASES = {
  **cases_attention.CASES,
  **cases_early.CASES,
  **cases_bilinear.CASES,
  **cases_transformers.CASES,
  **cases_relations.CASES,
}
