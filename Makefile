# make demo and make test do all the set-up there is; the other targets are parts of them.
#
# Everything but `make build` and `make bench-check` builds the whole workspace, so that features resolve alike and no crate is compiled twice; programs
# are then run from target/, as `cargo run -p` would resolve the features of one package alone.
.PHONY: demo test soak chaos fuzz lint bench bench-check bench-peers build dist schema book redis faketime prometheus chromium kubernetes valgrind languages clean help

# Lints while it builds: see the script.
LINTING := RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/.ci/clippy-rustc
# Most tests wait most of the time: with four for each core, all of them take two thirds of the time that they take with two.
TEST_THREADS ?= $(shell echo $$(($$(nproc) * 4)))

help: ## Show what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

demo: redis ## See it work: two workers, an unruly upstream, a few hundred prompts
	cargo build --workspace --bins
	@target/debug/demo

test: redis faketime prometheus chromium kubernetes languages lint ## Run everything: lints, unit tests, and the tests against real servers
	$(LINTING) cargo test --workspace -- --test-threads $(TEST_THREADS)

soak: redis lint ## Try limits, breakers and a batch of 100,000 lines at length, some minutes
	REDIAL_SOAK=1 $(LINTING) cargo test --workspace --test it -- promises::limits promises::breaker batch::

chaos: redis faketime ## Put a fleet under random faults and check every promise; CHAOS="--redis cluster --minutes 10" changes the run
	cargo build --workspace --bins
	target/debug/chaos $(CHAOS)

fuzz: ## Look for inputs that break what Redial reads, by cargo-fuzz; FUZZ="task --seconds 600" changes the targets and the time
	tests/fuzz/run.sh $(FUZZ)

lint: ## Check formatting, and build all programs and tests under clippy; warnings are errors
	cargo fmt --all --check
	$(LINTING) cargo build --workspace --all-targets

bench: redis ## Measure it beside a bare HTTP client: the table of docs/performance.md
	cargo build --release --workspace --bins
	target/release/bench

bench-check: redis valgrind ## Count the instructions and Redis commands of a task: fails if benches/baseline.json is exceeded by 10 %; CHECK=--update replaces it
	cargo build --profile counted -p redial-worker -p redial-benches
	target/counted/bench check $(CHECK)

bench-peers: redis ## Measure it beside other job queues, which are installed below target/peers; PEERS="--rounds 3" changes the run
	cargo build --release --workspace --bins
	benches/peers/run.py $(PEERS)

build: ## Build the worker and the command line for use
	cargo build --release
	@echo "built: target/release/redial-worker target/release/redial"

dist: ## Make what a release consists of, in target/dist: programs, packages, clients, checksums
	@deploy/dist.sh

schema: ## Update docs/task.schema.json and docs/result.schema.json from the types
	REDIAL_UPDATE_SCHEMA=1 $(LINTING) cargo test --quiet --workspace --test it -- schema::

book: ## Build the book of docs/ into target/book, with mdBook (cargo install mdbook)
	mdbook build docs

redis: ## Install a Redis server unless this machine has one
	@deploy/install-redis.sh

faketime: ## Install libfaketime, with which tests set the clock of Redis, unless this machine has it
	@deploy/install-faketime.sh

prometheus: ## Install prometheus and promtool, with which tests check alerts and dashboard, unless this machine has them
	@deploy/install-prometheus.sh

chromium: ## Install Chromium, with which the dashboard is tested, unless this machine has it
	@deploy/install-chromium.sh

kubernetes: ## Install kubernetes-validate, with which tests check the manifests, unless this machine has it
	@deploy/install-kubernetes-validate.sh

valgrind: ## Install Valgrind, which counts instructions, unless this machine has it
	@deploy/install-valgrind.sh

languages: ## Install Go, PHP and Ruby with Sinatra, in which examples are tested, unless this machine has them
	@deploy/install-languages.sh

clean: ## Delete what was built
	cargo clean
