# The service on the CPU: build with `docker build -t recurve .`, or let docker compose do it. Other targets, which docker compose
# has profiles for: `gpu`, the service for an NVIDIA GPU, on x86-64; `train`, the trainer.
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv

FROM build AS build-cpu
COPY requirements/service-cpu.txt /tmp/requirements.txt
RUN /venv/bin/pip install --quiet -r /tmp/requirements.txt

FROM build AS build-gpu
COPY requirements/service-cuda.txt /tmp/requirements.txt
RUN /venv/bin/pip install --quiet -r /tmp/requirements.txt

# Of PyTorch the CPU build, which that index alone has: PyPI's brings gigabytes of CUDA. What it needs comes from PyPI all the same.
FROM build AS build-train
COPY requirements/torch.txt requirements/torch-pins.txt /tmp/
RUN /venv/bin/pip install --quiet --no-deps --index-url https://download.pytorch.org/whl/cpu -r /tmp/torch.txt && \
    /venv/bin/pip install --quiet -r /tmp/torch.txt
COPY requirements/service-cpu.txt requirements/train.txt /tmp/
RUN /venv/bin/pip install --quiet -r /tmp/service-cpu.txt -r /tmp/train.txt

FROM python:3.11-slim-bookworm AS files
WORKDIR /recurve
COPY app app
COPY model model
RUN python -m compileall -q app

FROM python:3.11-slim-bookworm AS user
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin recurve
WORKDIR /recurve
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1

# The trainer. What it writes goes to runs and to model, which are for mounts.
FROM user AS train
RUN install -d -o 10001 -g 10001 runs model
ENV MPLCONFIGDIR=/tmp/matplotlib
USER 10001
STOPSIGNAL SIGINT
CMD ["python", "-m", "scripts.train"]
COPY --from=build-train /venv /venv
COPY app app
COPY scripts scripts

# All but the files. The targets below put them on top of their packages, which are large and change seldom.
FROM user AS service
RUN install -d -o 10001 -g 10001 data keys
ENV RECURVE_HOST=0.0.0.0 RECURVE_DRAIN_DELAY=5
VOLUME /recurve/data
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=1s --retries=3 CMD ["python", "-m", "app.probe"]
ENTRYPOINT ["python", "-m", "app"]

# The NVIDIA Container Toolkit lends the host's driver to the container: of it, CUDA and nvidia-smi.
FROM service AS gpu
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-gpu /venv /venv
COPY --from=files /recurve /recurve

FROM service AS cpu
COPY --from=build-cpu /venv /venv
COPY --from=files /recurve /recurve
