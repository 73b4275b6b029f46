# `make` alone lists what there is. The work is done by scripts/*.sh, which can be run by themselves.

.DEFAULT_GOAL := help
.PHONY: help run test sim check fmt web doc setup

help: ## list what there is
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-8s %s\n", $$1, $$2 }'

run: ## start the server (development, nothing to configure)
	cargo run --release

test: ## everything: installs what is missing, checks, builds, runs every test
	scripts/test.sh

sim: ## more of the simulation: SIM_SEEDS= runs of SIM_STEPS= events each, from seed SIM_FIRST=
	scripts/sim.sh

check: ## what needs no running server: format, lints, docs, tidy, the page's types and build
	scripts/check.sh

fmt: ## format the Rust sources
	cargo fmt --all

web: ## build the page into clients/web/dist, which is committed and embedded
	scripts/web.sh build

doc: ## the crates' documentation, into target/doc
	cargo doc --workspace --no-deps

setup: ## install what tests need: Debian packages (as root), node modules
	scripts/setup.sh
