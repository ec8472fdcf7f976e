# The service on the CPU: build with `docker build -t recurve .`, or let docker compose do it.
# For an NVIDIA GPU, on x86-64: `docker build --target cuda -t recurve:cuda .`, or add deploy/gpu.yml to docker compose.
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv

FROM build AS build-cpu
COPY requirements/service-cpu.txt /tmp/requirements.txt
RUN /venv/bin/pip install --quiet -r /tmp/requirements.txt

FROM build AS build-cuda
COPY requirements/service-cuda.txt /tmp/requirements.txt
RUN /venv/bin/pip install --quiet -r /tmp/requirements.txt

FROM python:3.11-slim-bookworm AS files
WORKDIR /recurve
COPY app app
COPY model model
RUN python -m compileall -q app

# All but the files. The targets below put them on top of their packages, which are large and change seldom.
FROM python:3.11-slim-bookworm AS service
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin recurve
WORKDIR /recurve
RUN install -d -o 10001 -g 10001 data keys
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 RECURVE_HOST=0.0.0.0
VOLUME /recurve/data
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=1s --retries=3 CMD ["python", "-m", "app.probe"]
ENTRYPOINT ["python", "-m", "app"]

# The NVIDIA Container Toolkit lends the host's driver to the container: of it, CUDA and nvidia-smi.
FROM service AS cuda
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /venv /venv
COPY --from=files /recurve /recurve

FROM service AS cpu
COPY --from=build-cpu /venv /venv
COPY --from=files /recurve /recurve
