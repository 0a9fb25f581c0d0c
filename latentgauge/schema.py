"""The report's JSON Schema: `python -m latentgauge.schema > docs/report/schema.json`."""

from __future__ import annotations

import json
import sys

from latentgauge.report import Report


def schema() -> str:
    """The schema as it is published, in JSON Schema 2020-12."""
    published = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Report.model_json_schema(mode="serialization"),
    }
    return json.dumps(published | {"title": "latentgauge.report/1"}, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema())
