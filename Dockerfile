# The service on the CPU: build with `docker build -t recurve .`, or let docker compose do it.
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv
COPY requirements/service-cpu.txt /tmp/requirements.txt
RUN /venv/bin/pip install --quiet -r /tmp/requirements.txt \
    && find /venv -name __pycache__ -prune -exec rm -rf {} + \
    && /venv/bin/python -m compileall -q /venv/lib

FROM python:3.11-slim-bookworm AS cpu
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin recurve
WORKDIR /recurve
COPY --from=build /venv /venv
COPY app app
COPY model model
RUN /venv/bin/python -m compileall -q app && install -d -o 10001 -g 10001 data keys
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 RECURVE_HOST=0.0.0.0
VOLUME /recurve/data
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --start-interval=1s --retries=3 CMD ["python", "-m", "app.probe"]
ENTRYPOINT ["python", "-m", "app"]
