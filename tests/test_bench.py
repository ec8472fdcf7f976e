"""The benchmark's reading of its load generator: a failed request must never pass for a fast one."""

import pytest

from scripts.bench import load

REPORT = """Running 4s test @ http://127.0.0.1:8000/predict
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    10.36ms    2.01ms  31.00ms   90.00%
    Req/Sec     6.10k   200.00     6.54k    87.50%
  Latency Distribution
     50%  950.00us
     75%   11.00ms
     90%   12.00ms
     99%    1.25s
  24400 requests in 4.00s, 100.00MB read
{errors}Requests/sec:   6089.12
Transfer/sec:     25.00MB
"""


def test_rates_and_latencies_are_read_in_their_units() -> None:
    found = load._read(REPORT.format(errors=""))
    assert (found.requests_per_second, found.p50, found.p99, found.failed) == (6089.12, pytest.approx(950e-6), 1.25, 0)


def test_every_kind_of_failure_is_counted() -> None:
    errors = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n"
    assert load._read(REPORT.format(errors=errors)).failed == 15


def test_a_report_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="cannot be read"):
        load._read("unable to connect to 127.0.0.1:8000 Connection refused")
