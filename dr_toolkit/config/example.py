"""The example that ``drctl config example`` prints: every field once, with what it is for. A test reads it back."""

from __future__ import annotations

_EXAMPLE = """\
# drctl.yaml: what is protected, where the copies go, who can read them.
# No secret is written here; a secret is named by a reference:
#   env:NAME            an environment variable
#   file:/path          a file (one newline at its end is ignored)
#   vault:path#field    a field of a secret in Vault
# Relative paths count from this file's directory. Check it with: drctl config check
version: 1

repository:
  url: s3://dr-backups/conduktor          # or a directory: file:///var/lib/drctl
  # trust: "ed25519:…"                    # printed by drctl init: pins the key that vouches for all others
  s3:
    endpoint: https://minio:9000          # without it: Amazon's, for the region
    region: us-east-1
    access_key_id: env:DR_KEY             # without both: the usual AWS chain
    secret_access_key: env:DR_SECRET
    # session_token: env:DR_SESSION       # for temporary keys
    # ca_file: /etc/drctl/minio-ca.crt    # certificates trusted besides the system's
    addressing: path                      # or virtual: the bucket in front of the host's name

# Who can unwrap the repository's keys. role "write" backs up and lists, and cannot read what was stored;
# role "read" also restores, verifies and prunes. Each role needs a key of its own.
keys:
  vault-write:
    type: vault
    role: write
    address: https://vault:8200
    transit_key: drctl-write
    mount: transit
    auth: {method: token, token: "env:VAULT_TOKEN"}
    # ca_file: /etc/drctl/vault-ca.crt
    # namespace: team-a
  safe:
    type: key-file
    role: read
    path: /etc/drctl/safe.key             # drctl keys generate-file makes it; keep a copy far from here

components:
  console-db:
    kind: postgres-dump
    connection:
      host: main-postgresql               # one of host, hosts, url
      # hosts: [pg-1, "pg-2:5433"]        # several, tried in order
      # url: env:CDK_DATABASE_URL         # postgresql://… or jdbc:postgresql://…; with a password only as a reference
      port: 5432
      database: conduktor
      user: drctl_backup
      password: env:DR_DB_PASSWORD
      sslmode: verify-full
      sslrootcert: /etc/drctl/pg-ca.crt
      # sslcert: /etc/drctl/pg-client.crt
      # sslkey: /etc/drctl/pg-client.key
      # programs: /usr/lib/postgresql/18/bin
    restore_connection:                   # only where restore runs; the rest is as above
      user: drctl_restore
      password: file:/run/secrets/drctl-restore
    check_source: false                   # true: also compare row counts by SQL
    schedule: "15 * * * *"                # minute, hour, day of month, month, day of week
    objectives: {rpo: 2h, rto: 30m}
    retention: {last: 3, daily: 7, weekly: 5, monthly: 12, yearly: 0}
  console-base:
    kind: postgres-base                   # the whole server, for self-hosted ones; the role needs REPLICATION
    connection: {host: main-postgresql, database: postgres, user: drctl_replication, password: env:DR_REPLICATION_PASSWORD}
    checkpoint: fast                      # or spread: slower, easier on the server's disk
    # max_rate: 51200                     # KiB each second
    # max_wal_kept: 10Gi                  # WAL held on the server for a running backup; the backup ends before it is more
    count_rows: 64Mi                      # tables up to this size are counted, for verify --restore; 0: none
    audit_every: 10                       # increments (17+, summarize_wal), then one full read that checks them
    schedule: "0 2 * * *"
  cortex:
    kind: bucket                          # the objects of a bucket, or of a folder in it
    url: s3://conduktor-monitoring
    s3: {endpoint: "http://s3-minio:9000", access_key_id: env:S3_KEY, secret_access_key: env:S3_SECRET}
    tags: false                           # true: also keep tags, a request for each object
    versions: latest                      # all: also older versions and delete markers of a bucket with versioning
    max_change: 50                        # percent gone or rewritten since the last snapshot: code 3, look at it
    # places:                               # where else to restore to: drctl restore cortex --to second-site
    #   second-site: {url: "s3://copy", s3: {endpoint: "https://other-minio:9000", access_key_id: env:OTHER_KEY, secret_access_key: env:OTHER_SECRET}}
    schedule: "30 2 * * *"
  cortex-replica:
    kind: bucket
    url: s3://conduktor-monitoring
    s3: {endpoint: "http://s3-minio:9000", access_key_id: env:S3_KEY, secret_access_key: env:S3_SECRET}
    mode: replica                         # an exact copy of the bucket that an application can use at once; no history
    to:
      url: s3://conduktor-monitoring-replica
      s3: {endpoint: "https://other-minio:9000", access_key_id: env:OTHER_KEY, secret_access_key: env:OTHER_SECRET}
    max_delete: "10%"                     # at most so much is deleted in one run; else nothing, and code 3
  releases:
    kind: helm                            # Helm releases, from Helm's own storage
    namespaces: [conduktor]
    revisions: all                        # or deployed: of each release the deployed revision
    drivers: [secrets]                    # where Helm keeps them; also configmaps
    workloads: true                       # the live state: images with digests, replicas, ConfigMaps
    repositories: {my-chart: "https://charts.example.com"}   # where restore.sh installs a chart from; Conduktor's are known
    schedule: "45 2 * * *"
  secrets:
    kind: secrets                         # metadata and fingerprints of Secrets, no values
    namespaces: [conduktor]
    include_values:                       # but of these: kept sealed, readable by the role "read" alone
      - gateway-secrets/GATEWAY_USER_POOL_SECRET_KEY
      - bundle-truststore
      - {name: root-ca-secret, namespace: cert-manager, keys: [tls.crt, tls.key]}
    schedule: "50 2 * * *"

# cluster:                                # the Kubernetes API; without it: the pod's service account, else kubectl's configuration
#   kubeconfig: /etc/drctl/kubeconfig
#   context: production
#   in_cluster: false                     # true, instead of both: the pod's service account and nothing else

# platform:                               # the applications: scaled down for a restore, asked about their health, looked at by the gate
#   console: {kind: console, namespace: conduktor, release: console, url: "http://conduktor-console.conduktor"}
#   gateway: {kind: gateway, namespace: conduktor, url: "http://gateway-internal.conduktor:8888", writes: false}
#   # of console, how its new version is tried on a restored copy (drctl pre-upgrade --rehearse); all of it may be left out:
#   #   rehearsal:
#   #     component: console-db           # its main database, a postgres-dump
#   #     image: docker.io/conduktor/conduktor-console:1.48.0   # else the chart's, or the release's with --to-version as tag
#   #     environment: {CDK_LICENSE: "env:CDK_LICENSE"}         # other secrets get throw-away values
#   #     expected_errors: ["SomeKnownWarning"]                 # lines with the level ERROR that are none
#   #     cpu: "1"                        # else the chart's
#   #     memory: 4Gi                     # else the chart's
#   #     start_timeout: 5m               # for the image and room on a node
#   #     timeout: 15m                    # for migrations, until the health endpoint answers
#   #     settle: 10s                     # it must stay healthy for so long

verify:
  scratch: local                          # a throw-away PostgreSQL on this machine; namespace: in Kubernetes, made for it and deleted
  # programs: /usr/lib/postgresql/18/bin  # initdb and postgres; else looked for
  # parallel: 2                           # proofs of the gate beside each other; else as many as there are cores, at most 4
  # namespace:                            # what runs in a scratch namespace (drctl verify --restore --in namespace)
  #   image: registry.example.com/drctl@sha256:0000000000000000000000000000000000000000000000000000000000000000
  #   postgres: {"17": "postgres@sha256:0000000000000000000000000000000000000000000000000000000000000000"}
  #   postgres_user: 999                  # in the image's /etc/passwd; 70 in Alpine's
  #   user: 10001                         # of drctl
  #   storage_class: fast                 # a claim; without it an emptyDir on the node
  #   size: 20Gi                          # else half as much again as the source had, and 5 GiB
  #   cpu: "1"                            # each of the two containers asks for this
  #   memory: 1Gi                         # and this, which is its limit too
  #   quota: {limits.memory: 4Gi}         # of the namespace; else what is needed
  #   start_timeout: 5m                   # for images, volumes and room on a node
  #   timeout: 2h                         # for the restore

schedule:                                 # of drctl schedule; CronJobs have their own times
  time_zone: UTC                          # of every cron expression here; Europe/Paris
  verify: "0 4 * * 0"                     # every component, by restore; without it: never
  drill: "0 5 1 * *"                      # a whole recovery point into scratch, timed; without it: never
"""


def example() -> str:
    """A complete configuration with comments, in YAML, that `load` accepts."""
    return _EXAMPLE
