"""Metrics as a mapping."""

from prometheus_client.parser import text_string_to_metric_families

Metrics = dict[tuple[str, ...], float]


def parse_metrics(exposition: str) -> Metrics:
    """Return the samples by name and values of labels, which are in the order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }
