# Two commands matter: `make demo` shows what this is, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo demo-kubernetes test e2e torture kill-points check build docs bench bench-sync bench-operator fuzz golden packages image install install-kubectl clean

CACHE := $(shell scripts/cache-dir)
# Outside the tree when nothing else is said, so that a fresh clone does not start from nothing and, as root, the
# unprivileged user that runs PostgreSQL can execute what was built.
export CARGO_TARGET_DIR ?= $(shell mkdir -p $(CACHE)/target 2>/dev/null && test -w $(CACHE)/target && echo $(CACHE) || pwd)/target
DEBUG := $(CARGO_TARGET_DIR)/debug
RELEASE := $(CARGO_TARGET_DIR)/release
PREFIX ?= /usr/local
DESTDIR ?=
UNITDIR ?= /lib/systemd/system

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

demo: ## Walk through the introduction on a real PostgreSQL 18, in about a minute after the build
	@scripts/check-prerequisites --install demo
	@scripts/fetch-postgres 18
	cargo build -p pg_hardstorage
	@scripts/demo $(DEBUG)/pg_hardstorage

demo-kubernetes: ## The tutorial for Kubernetes as it is written, on a node of its own (SOURCE=patroni for the other one; root)
	@scripts/check-prerequisites --install kubernetes
	@scripts/fetch-postgres 18
	@scripts/fetch-tools helm
	@scripts/fetch-kubernetes
	cargo build -p pg_hardstorage -p pg_hardstorage_operator
	@scripts/demo-kubernetes $(DEBUG)/pg_hardstorage $(SOURCE)

test: ## Everything but the node: unit, property, conformance and snapshot tests, PostgreSQL 15 to 18, real object stores, a real API server
	@scripts/check-prerequisites --install test
	@scripts/fetch-postgres
	@scripts/fetch-servers
	@scripts/fetch-reader
	@scripts/fetch-tools helm promtool
	@scripts/fetch-definitions
	@e2e/kubernetes/build
	cargo build -p pg_hardstorage
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	CI=true cargo test --workspace --no-fail-fast -- --test-threads=2 2>&1 | tee "$$log" || { scripts/recap-tests "$$log"; exit 1; }

e2e: ## The stories of Kubernetes: a real node, CloudNativePG, Patroni, and our operator (STORY=name for one; root)
	@scripts/check-prerequisites --install kubernetes
	@scripts/fetch-postgres 18
	@scripts/fetch-tools helm
	@scripts/fetch-kubernetes
	cargo build -p pg_hardstorage -p pg_hardstorage_operator
	@scripts/e2e $(STORY)

torture: ## Nothing acknowledged is lost: random kills, stalls, full disks and promotions, also by Patroni, 15 to 18 in turn (MINUTES; SEED, MAJOR and PROMOTER repeat a round)
	@scripts/check-prerequisites --install test
	@scripts/fetch-postgres
	@scripts/fetch-servers minio etcd patroni
	cargo build -p pg_hardstorage -p hardstorage-e2e --bin pg_hardstorage --bin torture
	@HARDSTORAGE_KEEP=1 MINUTES="$(MINUTES)" SEED="$(SEED)" MAJOR="$(MAJOR)" PROMOTER="$(PROMOTER)" $(DEBUG)/torture

kill-points: ## Kill every command at all of its points, and cut the power under a directory (MINUTES for each test and version; SEED)
	@scripts/check-prerequisites --install test
	@scripts/fetch-postgres 15 18
	@scripts/fetch-servers minio
	cargo build -p pg_hardstorage
	@KILL_POINTS=all MINUTES="$(or $(MINUTES),5)" SEED="$(SEED)" \
		cargo test -p hardstorage-e2e --test engine -- --nocapture --test-threads=2 kill_points power_cut

check: ## Format, lints, and the rules for dependencies (bans, licences, sources), offline
	@scripts/fetch-tools cargo-deny
	@for script in scripts/* .ci/run; do bash -n "$$script"; done
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p hardstorage-e2e --test kubernetes -- -D warnings
	@cargo fetch --quiet --locked
	$(CACHE)/bin/cargo-deny --offline check bans licenses sources

build: ## The release binary
	cargo build --release -p pg_hardstorage

docs: ## The book, into <target>/book
	@scripts/fetch-tools mdbook
	$(CACHE)/bin/mdbook build docs --dest-dir $(CARGO_TARGET_DIR)/book

bench: ## The benchmarks beside pgBackRest, pg_basebackup, pg_receivewal and cp (SCALE, ROUNDS, ONLY)
	@scripts/check-prerequisites --install bench
	@scripts/fetch-postgres 18
	@scripts/fetch-servers minio
	@scripts/fetch-peers || echo "going on without pgBackRest"
	cargo build --release -p pg_hardstorage -p hardstorage-e2e --bins
	@HARDSTORAGE_BIN=$(RELEASE)/pg_hardstorage $(RELEASE)/bench

bench-sync: ## What a commit costs that waits, beside pg_receivewal --synchronous (ROUNDS, SECONDS, CLIENTS, DISTANCES)
	@scripts/check-prerequisites --install bench
	@scripts/fetch-postgres 18
	@scripts/fetch-servers minio
	cargo build --release -p pg_hardstorage -p hardstorage-e2e --bins
	@HARDSTORAGE_BIN=$(RELEASE)/pg_hardstorage $(RELEASE)/bench_sync

bench-operator: ## The operator beside many streams on a real API server (DEPLOYMENTS, BACKUPS, SECONDS)
	@scripts/check-prerequisites --install test
	@e2e/kubernetes/build
	cargo build --release -p pg_hardstorage_operator
	@HARDSTORAGE_OPERATOR_BIN=$(RELEASE)/pg_hardstorage_operator cargo run -p hardstorage-e2e --bin bench_operator

fuzz: ## The property tests of every parser and codec, with CASES cases each
	PROPTEST_CASES=$(or $(CASES),20000) cargo test --workspace --lib

golden: ## A new golden repository by the program of today, kept for ever under e2e/golden (NAME)
	@scripts/check-prerequisites --install test
	@scripts/fetch-postgres 18
	@scripts/fetch-reader
	cargo build -p pg_hardstorage -p hardstorage-e2e --bin pg_hardstorage --bin golden
	@NAME="$(NAME)" cargo run --quiet -p hardstorage-e2e --bin golden

packages: ## Tarball, .deb and .rpm with checksums and SBOM into <target>/packages; installed and tried (root), for glibc 2.28 on
	@scripts/check-prerequisites --install packages
	@scripts/fetch-postgres 18
	scripts/build-portable pg_hardstorage
	@scripts/packages $(CARGO_TARGET_DIR)/$$(uname -m)-unknown-linux-gnu/release/pg_hardstorage $(CARGO_TARGET_DIR)/packages
	@scripts/test-packages $(CARGO_TARGET_DIR)/packages

image: ## Engine and operator as an OCI archive, without any container tool: binaries for glibc 2.28 on, user 65532 (IMAGE)
	@scripts/check-prerequisites --install image
	scripts/build-portable pg_hardstorage pg_hardstorage_operator
	@scripts/image $(CARGO_TARGET_DIR)/pg-hardstorage.oci.tar \
		$(CARGO_TARGET_DIR)/$$(uname -m)-unknown-linux-gnu/release/pg_hardstorage

install: build ## The binary, man pages, completions and systemd units (PREFIX, DESTDIR, UNITDIR)
	@scripts/install $(RELEASE)/pg_hardstorage "$(DESTDIR)" "$(PREFIX)" "$(UNITDIR)"

install-kubectl: ## The plugin `kubectl hardstorage`, and the link that kubectl completes by (PREFIX, DESTDIR)
	cargo build --release -p kubectl-hardstorage
	install -D -m 0755 $(RELEASE)/kubectl-hardstorage "$(DESTDIR)$(PREFIX)/bin/kubectl-hardstorage"
	ln -sf kubectl-hardstorage "$(DESTDIR)$(PREFIX)/bin/kubectl_complete-hardstorage"

clean: ## Remove what was built; the cache of servers and tools stays
	cargo clean
