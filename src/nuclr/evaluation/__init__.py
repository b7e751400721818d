"""Evaluation: probes of representations, their scores, the scaling law, and answers for new units."""
