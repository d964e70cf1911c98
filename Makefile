# Targets are a line or two each; what they do is in the programs. `make demo` and `make test` are where to start.
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
DESCRIPTION := $(shell sed -n 's/^description = "\(.*\)"/\1/p' Cargo.toml)
HOST    := $(shell rustc -vV | sed -n 's/^host: //p')
TARGET  ?= $(HOST)
# What a release is built for.
TARGETS ?= x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu
IMAGE   ?= localhost/migration-gate:$(VERSION)
ARCHIVE ?= target/migration-gate.tar
CLUSTER ?= dev
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 3600
# Static, and the same bytes wherever they are built.
CARGO_HOME ?= $(HOME)/.cargo
STATIC  := RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(CARGO_HOME)=/cargo \
  --remap-path-prefix=$(HOME)=~"
# Debian's names for linkers of other processors.
ifneq ($(HOST),aarch64-unknown-linux-gnu)
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := aarch64-linux-gnu-gcc
endif
ifneq ($(HOST),x86_64-unknown-linux-gnu)
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER := x86_64-linux-gnu-gcc
endif
TESTCLUSTER := cargo run --quiet -p testcluster --
OCI_IMAGE   := cargo run --quiet -p oci-image --
IN_IMAGE    := --user 65532:65532 --entrypoint /bin/migration-gate /bin/migration-gate=target/{target}/release/migration-gate \
  /migration-gate-agent=target/{target}/agent/migration-gate-agent
# The repository's address, for labels and for where releases are downloaded from.
SOURCE  ?=
COMMIT  = $(shell git rev-parse HEAD)
CREATED = $(shell TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ)

.PHONY: agent program binaries shop witness image image-index dist publish man crd chart-readme test test-unit test-model model-deep mutants test-api test-node test-faults test-faults-short test-long soak test-soak test-arm64 deny fuzz test-run test-run-long demo bench-node bench-gates bench-scale bench-run bench-webhook bench-policies bench-instructions cluster-up cluster-down page-picture fmt lint clean

binaries: program agent

program:
	$(STATIC) cargo build --release --target $(TARGET) --bin migration-gate

agent:
	$(STATIC) cargo build --profile agent --target $(TARGET) -p migration-gate-agent

shop:
	$(STATIC) cargo build --release --target $(TARGET) -p demo --bin shop

witness:
	$(STATIC) cargo build --release --target $(TARGET) -p witness

image: binaries
	$(OCI_IMAGE) --output $(ARCHIVE) --tag $(IMAGE) --target $(TARGET) $(IN_IMAGE)

# Programs for another machine: `make binaries-aarch64-unknown-linux-gnu`.
binaries-%:
	deploy/cross.sh $*
	$(MAKE) binaries TARGET=$*

# One image for every target, as registries have it.
image-index: $(TARGETS:%=binaries-%)
	$(OCI_IMAGE) --compress --output target/migration-gate-index.tar --tag $(IMAGE) $(TARGETS:%=--target %) --created $(CREATED) \
	  --label org.opencontainers.image.title=migration-gate --label org.opencontainers.image.version=$(VERSION) \
	  --label "org.opencontainers.image.description=$(DESCRIPTION)" --label org.opencontainers.image.licenses=Apache-2.0 \
	  --label org.opencontainers.image.created=$(CREATED) --label org.opencontainers.image.revision=$(COMMIT) \
	  --label org.opencontainers.image.source=$(SOURCE) $(IN_IMAGE)

# Programs, manual, image, chart, bills of materials and their checksums, in target/dist.
dist: image-index man
	SOURCE=$(SOURCE) deploy/dist.sh $(VERSION) $(TARGETS)

# What `make dist` made, to REGISTRY, signed: release.yaml calls this.
publish:
	deploy/publish.sh $(VERSION) $(REGISTRY)

# By the program for this machine.
man: program
	rm -rf target/man
	target/$(TARGET)/release/migration-gate man target/man/man1

# The agent's tests for arm64; on another machine in QEMU's user-mode emulation, which needs root and qemu-user-static. That
# knows no PR_SET_CHILD_SUBREAPER (seen in 7.2), so there only agents that are PID 1 run attempts.
test-arm64: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := $(CURDIR)/tests/emulated.sh
test-arm64: export RUSTFLAGS := -C target-feature=+crt-static
test-arm64:
	deploy/cross.sh aarch64-unknown-linux-gnu
	cargo test --target aarch64-unknown-linux-gnu -p migration-gate-agent --lib
	cargo test --target aarch64-unknown-linux-gnu -p migration-gate-agent --test agent -- --test-threads 2 \
	  $(if $(filter aarch64-%,$(HOST)),,pid_1 copy_is copy_that arguments)

# Licences, advisories, sources and bans, by deny.toml; `cargo install cargo-deny --locked` once.
deny:
	cargo deny check

test: lint test-unit test-model test-run test-api test-soak test-node fuzz

test-unit:
	cargo test --workspace --lib --bins
	cargo test -p migration-gate-agent --test agent -- --test-threads=8
	cargo test --test transport

test-run:
	cargo test --test run

test-run-long:
	MIGRATION_GATE_LONG=1 cargo test --test run vanished -- --nocapture --test-threads 1

# The profile optimises the model; what it calls is decided once and remembered.
test-model:
	cargo test -p model --tests -- --nocapture --test-threads 1

# Each cluster up to ten million states.
model-deep:
	nice cargo run -q -p model -- deep

# Hours; `cargo install cargo-mutants --locked` once. Each change of the source should make a unit test fail.
mutants:
	cargo mutants --jobs 2 --output target/mutants/controller -p migration-gate \
	  -f 'src/controller/{decide,evidence,record,standing}.rs' --cargo-arg=--lib -- controller::
	cargo mutants --jobs 2 --output target/mutants/agent -p migration-gate-agent \
	  -f 'agent/src/{machine,journal,attempt,signal}.rs' --cargo-arg=--lib

test-api:
	cargo test -p testcluster --test api
	cargo test --test '*_api'
	cargo test --test rotation

# libFuzzer's instrumentation, which the stable toolchain has too.
fuzz:
	mkdir -p fuzz/found
	cd fuzz && RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	  -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1" cargo run --release --target $(TARGET) -- \
	  -max_total_time=$(FUZZ_SECONDS) -max_len=32768 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
	  -artifact_prefix=found/ found corpus

# An hour of a generated life, or SOAK_SECONDS; SEED repeats one. Both packages at once: so they share what they depend on.
soak: program
	cargo build -p soak -p migration-gate --bin soak
	target/debug/soak --program target/$(TARGET)/release/migration-gate --seconds $(SOAK_SECONDS) $(if $(SEED),--seed $(SEED)) $(SOAK)

# Two minutes of it.
test-soak:
	cargo build --bin migration-gate
	MIGRATION_GATE_PROGRAM=$(CURDIR)/target/debug/migration-gate cargo test -p soak -p migration-gate --test short -- --nocapture

crd:
	cargo run --quiet -- crd > deploy/crd.yaml

# The table of values in the chart's README, from the comments in its values.yaml.
chart-readme:
	UPDATE_SNAPSHOTS=1 cargo test --quiet --test chart_api readme

test-node: image shop test-faults-short
	cargo test -p testcluster --test node -- --test-threads 1
	cargo test -p demo --tests -- --test-threads 1

# Each quick fault once.
test-faults-short: image shop witness
	cargo test -p faults --test node -- --nocapture

test-faults: image shop witness
	cargo run --quiet -p faults -- $(FAULTS)

# What docs/page.md shows.
page-picture:
	mkdir -p target/pictures
	MIGRATION_GATE_PICTURES=$(CURDIR)/target/pictures cargo test --test page_api -- --nocapture
	cp target/pictures/page.png docs/page.png

test-long:
	ROTATIONS=200 RESTARTS=100 cargo test --test rotation -- --nocapture

demo: image shop
	cargo run --quiet -p demo

bench-node: image shop
	cargo run --quiet -p demo --bin speed

bench-gates:
	cargo bench --bench gates

# Half an hour; SCALE_GROUPS=500 and the like choose smaller numbers.
bench-scale:
	cargo bench --bench scale

bench-run: program
	MIGRATION_GATE_LONG=1 MIGRATION_GATE_PROGRAM=$(CURDIR)/target/$(TARGET)/release/migration-gate \
	  cargo test --test run figures -- --nocapture

# The floor is in the bench's program, so it is built as the webhook's is.
bench-webhook: program
	$(STATIC) cargo build --release --target $(TARGET) -p bench-webhook
	target/$(TARGET)/release/bench-webhook compare --program target/$(TARGET)/release/migration-gate
	target/$(TARGET)/release/bench-webhook api --program target/$(TARGET)/release/migration-gate

# What the policies add to a kubelet's update of a pod's status.
bench-policies:
	cargo test --test policies_api cost -- --ignored --nocapture

# Needs valgrind. Counts what a request costs where the machine is too busy for the times above.
bench-instructions: program
	$(STATIC) cargo build --release --target $(TARGET) -p bench-webhook
	target/$(TARGET)/release/bench-webhook instructions --program target/$(TARGET)/release/migration-gate

cluster-up: image
	$(TESTCLUSTER) up --name $(CLUSTER) --cert-manager
	$(TESTCLUSTER) load --name $(CLUSTER) $(ARCHIVE)
	$(TESTCLUSTER) kubectl --name $(CLUSTER) -- apply -k .

cluster-down:
	$(TESTCLUSTER) down --name $(CLUSTER)

fmt:
	cargo fmt --all

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

clean:
	cargo clean
