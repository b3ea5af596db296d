# drctl with PostgreSQL's programs of the newest major version: clients for every server from 13 on, and the server programs
# that `verify --restore` starts as a throw-away. Snapshots of an older major version are restored into the newest.
#   docker build -t drctl .
#   docker run --read-only --tmpfs /tmp -v "$PWD/drctl.yaml:/etc/drctl/drctl.yaml:ro" drctl status
FROM python:3.13.14-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY dr_toolkit ./dr_toolkit
RUN python -m venv /opt/drctl \
    && /opt/drctl/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.13.14-slim-bookworm
ARG POSTGRES_MAJOR=18
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates postgresql-common \
    && /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y \
    && sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
    && apt-get install -y --no-install-recommends "postgresql-${POSTGRES_MAJOR}" "postgresql-client-${POSTGRES_MAJOR}" \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin drctl
COPY --from=build /opt/drctl /opt/drctl
ENV PATH="/opt/drctl/bin:/usr/lib/postgresql/${POSTGRES_MAJOR}/bin:${PATH}" \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["drctl"]
CMD ["--help"]
