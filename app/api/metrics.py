"""GET /metrics: what all workers have counted together, for Prometheus."""

from fastapi import APIRouter, Response

from app.metrics import CONTENT_TYPE, Metrics


def router(metrics: Metrics) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get(
        "/metrics",
        operation_id="metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    def scrape() -> Response:
        """Requests, instances, batches, padding, waiting and computing, in Prometheus' text format."""
        return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    return routes
