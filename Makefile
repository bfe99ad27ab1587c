# make demo and make test do all the set-up there is; the other targets are parts of them.
.PHONY: demo test soak lint bench build schema redis clean help

help: ## Show what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

demo: redis ## See it work: two workers, an unruly upstream, a few hundred prompts
	cargo build --workspace --bins
	@cargo run --quiet -p redial-examples --bin demo

test: redis lint ## Run everything: lints, unit tests, and the tests against real servers
	cargo build --workspace --bins
	cargo test --workspace

soak: redis ## Try limits, breakers and a batch of 100,000 lines at length, some minutes
	cargo build --workspace --bins
	REDIAL_SOAK=1 cargo test --workspace --test it -- promises::limits promises::breaker batch::

lint: ## Formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

bench: redis ## Measure it beside a bare HTTP client: the table of docs/performance.md
	cargo build --release --workspace --bins
	target/release/bench

build: ## Build the worker and the command line for use
	cargo build --release
	@echo "built: target/release/redial-worker target/release/redial"

schema: ## Update docs/task.schema.json and docs/result.schema.json from the types
	REDIAL_UPDATE_SCHEMA=1 cargo test --quiet --workspace --test it -- schema::

redis: ## Install a Redis server where there is none
	@deploy/install-redis.sh

clean: ## Delete what was built
	cargo clean
