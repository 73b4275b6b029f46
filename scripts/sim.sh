#!/usr/bin/env bash
# The simulation with more seeds and longer runs than `cargo test` takes. A run that fails is printed with the command that
# runs it again.
set -euo pipefail
cd "$(dirname "$0")/.."

export SIM_FIRST="${SIM_FIRST:-0}" SIM_SEEDS="${SIM_SEEDS:-1000}" SIM_STEPS="${SIM_STEPS:-12000}"
echo "seeds $SIM_FIRST to $((SIM_FIRST + SIM_SEEDS - 1)), $SIM_STEPS events each"
exec cargo test --locked -p veza-engine --test simulation -- --nocapture every
