# Fovea. `make` lists the targets. Nothing here asks a question.

SWIFT ?= swift
PYTHON ?= python3

# The files of Swift that `lint` and `format` look at.
SWIFT_FILES := Package.swift Sources Tests

# The targets that `docs` documents, ground floor first.
DOCUMENTED := FoveaTensor FoveaIO FoveaNN FoveaCompression FoveaTraining FoveaModels FoveaData Fovea

# The demonstration: a recipe, and the folder that training writes to.
RECIPE := Recipes/digits-resampler.yaml
RUN := runs/digits-resampler
FOVEA := .build/release/fovea

.DEFAULT_GOAL := help
.PHONY: help setup demo build test coverage fuzz fuzz-ops kills full-disk flat-memory sanitize lint format bench bench-peers docs clean

help:
	@echo 'make setup        install the system libraries that are missing (OpenBLAS, LAPACK, libpng, zlib, pkg-config)'
	@echo 'make demo         setup, build, train a resampler on digits, evaluate it, export its weights'
	@echo 'make build        build the command line tool in release'
	@echo 'make test         run the whole test suite'
	@echo 'make coverage     run the tests and print the share of lines that they reach, by target'
	@echo 'make fuzz         feed each reader of files FUZZ_RUNS inputs that libFuzzer makes up (FUZZ_READERS)'
	@echo 'make kills        kill a training run 200 times, half of them in the middle of a write'
	@echo 'make full-disk    train on fifty disks that are too small (root, or namespaces of users)'
	@echo 'make flat-memory  train a toy for 100,000 steps, whose memory must not grow'
	@echo 'make sanitize     run the tests under the address, undefined-behaviour and thread sanitizers (SANITIZED)'
	@echo 'make fuzz-ops     check the gradients of 10,000 random programs (FUZZ_SEED, FUZZ_PROGRAMS)'
	@echo 'make lint         check the format of all Swift files'
	@echo 'make format       format all Swift files in place'
	@echo 'make bench        time ops, modules and training steps'
	@echo 'make bench-peers  time PyTorch, JAX and MLX too, where installed, and print the ratios'
	@echo 'make docs         build the documentation'
	@echo 'make clean        remove build products (runs/ stays)'

# --- The system libraries ------------------------------------------------------------------------------------------

# A library is missing when it cannot be found the way the build looks for it: by pkg-config. LAPACK may also come
# without a pkg-config file, as a library that the linker finds. On macOS, Accelerate stands for BLAS and LAPACK.
define SETUP
set -u

has_pkg_config() { command -v pkg-config >/dev/null 2>&1; }

has() { has_pkg_config && pkg-config --exists "$$1"; }

has_lapack() {
    has lapack && return 0
    folder=$$(mktemp -d) || return 1
    echo 'void dpotrf_(void); int main(void) { dpotrf_(); return 0; }' >"$$folder/lapack.c"
    found=1
    for compiler in cc clang; do
        "$$compiler" "$$folder/lapack.c" -llapack -o "$$folder/lapack" >/dev/null 2>&1 && { found=0; break; }
    done
    rm -rf "$$folder"
    return $$found
}

look() {
    missing=
    has_pkg_config || missing="$$missing pkg-config"
    if [ "$$(uname -s)" != Darwin ]; then
        has openblas || missing="$$missing OpenBLAS"
        has_lapack || missing="$$missing LAPACK"
    fi
    has libpng || missing="$$missing libpng"
    has zlib || missing="$$missing zlib"
}

tell() {
    echo "setup: missing:$$missing" >&2
    echo "setup: $$1" >&2
    exit 1
}

look
if [ -n "$$missing" ]; then
    packages='libopenblas-dev liblapack-dev pkg-config libpng-dev zlib1g-dev'
    sudo='sudo '
    [ "$$(id -u)" -eq 0 ] && sudo=
    by_hand="$${sudo}apt-get update && $${sudo}apt-get install -y $$packages"
    if ! command -v apt-get >/dev/null 2>&1; then
        if command -v brew >/dev/null 2>&1 || [ "$$(uname -s)" = Darwin ]; then
            tell 'install it with: brew install openblas libpng pkg-config'
        elif command -v dnf >/dev/null 2>&1; then
            tell 'install it with: sudo dnf install openblas-devel lapack-devel libpng-devel zlib-devel pkgconf-pkg-config'
        elif command -v pacman >/dev/null 2>&1; then
            tell 'install it with: sudo pacman -S --needed openblas lapack libpng zlib pkgconf'
        fi
        tell 'install the development packages of OpenBLAS, LAPACK, libpng and zlib, and pkg-config'
    fi

    as_root=
    if [ -n "$$sudo" ]; then
        command -v sudo >/dev/null 2>&1 || tell "as root, run: apt-get update && apt-get install -y $$packages"
        sudo -n true 2>/dev/null || tell "sudo would ask for a password; run: $$by_hand"
        as_root='sudo -n'
    fi

    echo "setup: missing:$$missing; installing through apt-get"
    apt="$$as_root env DEBIAN_FRONTEND=noninteractive apt-get"
    # A package list that cannot be refreshed is no reason to stop: the install tells whether it matters.
    $$apt update || echo 'setup: apt-get update failed; trying with the package lists that are there' >&2
    $$apt install -y $$packages || tell "apt-get could not install; to see why, run: $$by_hand"
    look
    [ -z "$$missing" ] || tell "apt-get installed $$packages, but that is still not found"
fi
echo 'setup: the system libraries are there'
endef
export SETUP

setup:
	@sh -c "$$SETUP"

# --- From a picture to exported weights -----------------------------------------------------------------------------

demo: setup
	$(SWIFT) build -c release --product fovea
	$(FOVEA) train $(RECIPE) --overwrite
	$(FOVEA) evaluate $(RUN) --split test
	$(FOVEA) export $(RUN) --layout open-flamingo --output $(RUN)/resampler.safetensors
	@echo
	@echo 'Report            $(RUN)/report.json'
	@echo 'Curve             $(RUN)/curve.svg'
	@echo 'Checkpoint        $(RUN)/checkpoints/'
	@echo 'Exported weights  $(RUN)/resampler.safetensors'
	@echo
	@echo 'Next, halve the tokens and see what it costs:'
	@echo '    $(FOVEA) train $(RECIPE) --set compressor.num_latents=2 --output $(RUN)-2'

# --- Building and checking ------------------------------------------------------------------------------------------

build: setup
	$(SWIFT) build -c release --product fovea

# In debug: the checks of the language are on, and the C kernels are optimised all the same. All tests are of Swift
# Testing; without the flag a run of no XCTest cases is reported too.
test: setup
	$(SWIFT) test --disable-xctest

# Built apart, since the counters cost time. A process that traps writes no counts, so that the tests of traps add
# nothing; the C kernels are not counted.
coverage: setup
	$(SWIFT) test --disable-xctest --enable-code-coverage --scratch-path .build-coverage
	@tool=$$(dirname "$$(readlink -f "$$(command -v $(SWIFT))")")/llvm-cov; \
	[ -x "$$tool" ] || tool='xcrun llvm-cov'; \
	built=.build-coverage/debug; \
	tests=$$(find -L $$built/FoveaPackageTests.xctest -type f -name 'FoveaPackageTests*' | head -n 1); \
	for target in $(DOCUMENTED) FoveaCLI; do \
		$$tool report "$$tests" -instr-profile $$built/codecov/default.profdata --sources $(CURDIR)/Sources/$$target | \
			awk -v target=$$target '/^TOTAL/ { printf "%-18s %s of %d lines\n", target, $$10, $$8 }'; \
	done

# A new seed each time, which a failure prints with the smallest program that fails.
FUZZ_SEED ?= $(shell date +%s)
FUZZ_PROGRAMS ?= 10000

fuzz-ops: setup
	FOVEA_FUZZ_SEED=$(FUZZ_SEED) FOVEA_FUZZ_PROGRAMS=$(FUZZ_PROGRAMS) \
		$(SWIFT) test --disable-xctest --filter FoveaTensorTests.FuzzTests

# libFuzzer with the address sanitizer, one process at a time. A hang is an input that takes over a second; 256 MiB is what
# a reader may ask for in one piece, and 768 what the process may hold in all, with the sanitizer's own. What is found stays
# in .fuzz/<reader>.
FUZZ_RUNS ?= 1000000
FUZZ_READERS ?= safetensors index shard npy npz idx cifar png recipe vocabulary manifest weights metrics configuration \
	language features inspect
FUZZ_SCRATCH ?= Tests/Fuzz/.build

fuzz: setup
	$(SWIFT) build --package-path Tests/Fuzz --scratch-path $(FUZZ_SCRATCH) -c release \
		-Xswiftc -sanitize=fuzzer,address -Xswiftc -enable-testing -Xcc -fsanitize=address
	@set -e; for reader in $(FUZZ_READERS); do \
		mkdir -p .fuzz/$$reader/corpus; \
		echo "fuzz: $$reader"; \
		FOVEA_FUZZ_READER=$$reader \
			ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16 \
			$(FUZZ_SCRATCH)/release/FuzzReaders \
			-runs=$(FUZZ_RUNS) -timeout=1 -malloc_limit_mb=256 -rss_limit_mb=768 -max_len=4096 \
			-dict=Tests/Fuzz/Dictionaries/$$reader.dict -print_final_stats=1 -verbosity=0 \
			-artifact_prefix=.fuzz/$$reader/ .fuzz/$$reader/corpus Tests/Fixtures/hostile/$$reader; \
	done

kills: setup
	FOVEA_KILLS=200 $(SWIFT) test --disable-xctest --filter KillTests

full-disk: build
	Tests/full-disk.sh $(FOVEA)

flat-memory: build
	Tests/flat-memory.sh $(FOVEA)

# Each sanitizer has a build of its own. SANITIZED is the filter of tests, all of them unless given; SANITIZERS which. The
# one for addresses also looks for undefined behaviour in C; of Swift, the language's own checks do, and on Linux its compiler
# knows no other. No report is suppressed; the test that looks at machine code does not run among their checks.
SANITIZED ?= .
SANITIZERS ?= address thread
UNDEFINED := undefined,float-cast-overflow
SANITIZE_address := --sanitize=address -Xcc -fsanitize=$(UNDEFINED) -Xcc -fno-sanitize-recover=$(UNDEFINED)
SANITIZE_thread := --sanitize=thread

sanitize: setup $(addprefix sanitize-,$(SANITIZERS))

sanitize-%:
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 $(SWIFT) test --disable-xctest \
		$(SANITIZE_$*) --scratch-path .build-$* --filter '$(SANITIZED)'

lint:
	$(SWIFT) format lint --strict --recursive --configuration .swift-format $(SWIFT_FILES)

format:
	$(SWIFT) format format --in-place --recursive --configuration .swift-format $(SWIFT_FILES)

bench: build
	$(FOVEA) bench

# PYTHON is the interpreter that has the peers installed; BENCH names benchmarks, all of them unless given.
bench-peers: build
	$(PYTHON) Benchmarks/compare.py --fovea $(FOVEA) $(BENCH)

# One archive of all targets, since `Fovea` itself only re-exports the others. A link into another target begins with a
# slash: ``/FoveaNN/Linear``. The manifest names the documentation plugin only when FOVEA_DOCS is set.
docs:
	FOVEA_DOCS=1 $(SWIFT) package --disable-sandbox generate-documentation \
		--enable-experimental-combined-documentation $(addprefix --target ,$(DOCUMENTED)) --warnings-as-errors

clean:
	$(SWIFT) package clean
