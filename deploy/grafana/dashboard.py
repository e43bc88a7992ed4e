"""Writes the dashboard of Grafana: what the metrics of an installation show.

    python deploy/grafana/dashboard.py [FILE]

`make dashboard` runs it with what requirements/dashboard.txt locks, and CI compares the result with
ingot.json. Import that file into Grafana, and choose the data source.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, StackingMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef

_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${source}")
_RATE: Final = "$__rate_interval"


class Query(NamedTuple):
    """An expression of PromQL, and the name of its series, with labels as {{label}}."""

    expression: str
    legend: str


class Graph(NamedTuple):
    """A panel; `unit` is one of Grafana's."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    stacked: bool = False
    width: int = 8


def quantiles(metric: str, label: str) -> tuple[Query, ...]:
    """Return the median and the 95 % of a histogram, for each value of a label."""
    return tuple(
        Query(
            f"histogram_quantile({quantile}, "
            f"sum by (le, {label}) (rate({metric}_bucket[{_RATE}])))",
            f"{{{{{label}}}}} {name}",
        )
        for quantile, name in ((0.5, "median"), (0.95, "95 %"))
    )


ROWS: Final[dict[str, tuple[Graph, ...]]] = {
    "Now": (
        Graph(
            "Stores",
            "bool_on_off",
            (Query("min by (store) (ingot_store_up)", "{{store}}"),),
            width=4,
        ),
        Graph("Workers", "short", (Query("max by (work) (ingot_workers)", "{{work}}"),), width=4),
        Graph(
            "Queued and running",
            "short",
            (Query("sum by (state) (max by (kind, state) (ingot_jobs))", "{{state}}"),),
            width=4,
        ),
        Graph(
            "Oldest queued job",
            "s",
            (Query("max(ingot_queue_oldest_age_seconds)", "age"),),
            width=4,
        ),
        Graph(
            "Open circuit breakers",
            "short",
            (Query("sum(max by (source) (ingot_source_breaker_open))", "sources"),),
            width=4,
        ),
        Graph(
            "Age of yt-dlp",
            "s",
            (Query("time() - min(ingot_extractor_release_timestamp_seconds)", "age"),),
            width=4,
        ),
    ),
    "Jobs": (
        Graph(
            "Queued",
            "short",
            (Query('max by (kind) (ingot_jobs{state="QUEUED"})', "{{kind}}"),),
            stacked=True,
        ),
        Graph(
            "Running",
            "short",
            (Query('max by (kind) (ingot_jobs{state="RUNNING"})', "{{kind}}"),),
            stacked=True,
        ),
        Graph(
            "Oldest queued job",
            "s",
            (Query("max by (kind) (ingot_queue_oldest_age_seconds)", "{{kind}}"),),
        ),
        Graph(
            "Ended",
            "cpm",
            (Query(f"60 * sum by (state) (rate(ingot_jobs_ended_total[{_RATE}]))", "{{state}}"),),
            stacked=True,
        ),
        Graph(
            "Failed, by reason",
            "cpm",
            (
                Query(
                    "60 * sum by (reason) "
                    f'(rate(ingot_jobs_ended_total{{state="FAILED"}}[{_RATE}])) > 0',
                    "{{reason}}",
                ),
            ),
            stacked=True,
        ),
        Graph(
            "Failed attempts, by source",
            "cpm",
            (
                Query(
                    f"60 * sum by (source) (rate(ingot_attempts_failed_total[{_RATE}])) > 0",
                    "{{source}}",
                ),
            ),
            stacked=True,
        ),
        Graph("Until a worker begins", "s", quantiles("ingot_job_dispatch_delay_seconds", "work")),
        Graph("Until first progress", "s", quantiles("ingot_job_first_progress_seconds", "work")),
        Graph("In each stage", "s", quantiles("ingot_job_stage_duration_seconds", "stage")),
    ),
    "Calls": (
        Graph(
            "Calls",
            "reqps",
            (Query(f"sum by (method) (rate(ingot_calls_total[{_RATE}])) > 0", "{{method}}"),),
            stacked=True,
        ),
        Graph(
            "Calls that failed",
            "reqps",
            (
                Query(
                    f'sum by (code) (rate(ingot_calls_total{{code!="OK"}}[{_RATE}])) > 0',
                    "{{code}}",
                ),
            ),
            stacked=True,
        ),
        Graph("Duration of calls", "s", quantiles("ingot_call_duration_seconds", "method")),
        Graph(
            "What requests found",
            "reqps",
            (Query(f"sum by (result) (rate(ingot_cache_requests_total[{_RATE}]))", "{{result}}"),),
            stacked=True,
        ),
        Graph(
            "Checks of subscriptions",
            "reqps",
            (
                Query(
                    f"sum by (reason) (rate(ingot_subscription_checks_total[{_RATE}]))",
                    "{{reason}}",
                ),
                Query(f"sum(rate(ingot_subscription_jobs_total[{_RATE}]))", "new jobs"),
            ),
        ),
        Graph(
            "Received",
            "Bps",
            (Query(f"sum by (source) (rate(ingot_received_bytes_total[{_RATE}]))", "{{source}}"),),
            stacked=True,
        ),
        Graph(
            "Stored",
            "Bps",
            (Query(f"sum by (source) (rate(ingot_stored_bytes_total[{_RATE}]))", "{{source}}"),),
            stacked=True,
        ),
    ),
    "Machines": (
        Graph(
            "Lost and abandoned",
            "cpm",
            (
                Query(f"60 * sum(rate(ingot_lease_losses_total[{_RATE}]))", "jobs lost a worker"),
                Query(f"60 * sum(rate(ingot_attempts_abandoned_total[{_RATE}]))", "attempts ended"),
            ),
        ),
        Graph(
            "Refused by the guard",
            "cpm",
            (
                Query(
                    f"60 * sum by (error) (rate(ingot_guard_refusals_total[{_RATE}])) > 0",
                    "{{error}}",
                ),
            ),
        ),
        Graph(
            "Child processes",
            "short",
            (Query("sum by (instance) (ingot_child_processes)", "{{instance}}"),),
        ),
        Graph(
            "Scratch space in use",
            "percentunit",
            (
                Query(
                    "1 - ingot_scratch_free_bytes / ingot_scratch_size_bytes",
                    "{{instance}}",
                ),
            ),
        ),
        Graph(
            "State of cookies",
            "short",
            (Query("max by (source, state) (ingot_source_cookies) == 1", "{{source}} {{state}}"),),
            stacked=True,
        ),
        Graph(
            "Memory of Redis",
            "bytes",
            (
                Query("max(ingot_redis_used_bytes)", "used"),
                Query("max(ingot_redis_limit_bytes) > 0", "limit"),
            ),
        ),
        Graph(
            "Versions",
            "short",
            (
                Query("count by (version) (ingot_build_info)", "Ingot {{version}}"),
                Query("count by (version) (ingot_extractor_info)", "yt-dlp {{version}}"),
            ),
        ),
    ),
}


def panel_of(graph: Graph, *, is_stat: bool) -> stat.Panel | timeseries.Panel:
    """Return the panel of a graph; one of the first row shows only the last values."""
    panel = stat.Panel() if is_stat else timeseries.Panel()
    panel.title(graph.title).unit(graph.unit).datasource(_SOURCE)
    panel.span(graph.width).height(4 if is_stat else 8)
    for number, query in enumerate(graph.queries):
        target = prometheus.Dataquery().expr(query.expression).legend_format(query.legend)
        panel.with_target(target.ref_id(chr(ord("A") + number)).datasource(_SOURCE))
    if isinstance(panel, stat.Panel):
        panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    else:
        legend = common.VizLegendOptions().show_legend(True)
        legend.display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        panel.legend(legend).min(0).fill_opacity(10)
        if graph.stacked:
            panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    return panel


def build() -> str:
    """Return the dashboard as JSON."""
    board = dashboard.Dashboard("Ingot").uid("ingot").tags(["ingot"]).refresh("30s")
    board.time("now-6h", "now").timezone("browser").readonly()
    board.with_variable(
        dashboard.DatasourceVariable("source").label("Data source").type("prometheus")
    )
    for title, graphs in ROWS.items():
        board.with_row(dashboard.Row(title))
        for graph in graphs:
            board.with_panel(panel_of(graph, is_stat=title == "Now"))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build())


def main(file: Path) -> None:
    file.write_text(build() + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("ingot.json"))
