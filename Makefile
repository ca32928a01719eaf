# SPDX-License-Identifier: Apache-2.0
# A short front for CMake and the scripts: `make help` lists what there is.
.PHONY: all help deps deps-test demo check gates san fuzz bench conformance identity identity-cuda peers static install uninstall deb deb-check clean
all: ## build build/layerskip and build/liblayerskip.so (says what is missing, installs nothing)
	@scripts/deps.sh say build
	@test -e build/build.ninja || cmake --preset release --log-level=NOTICE
	@ninja -C build --quiet product

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 12

deps: ## install the packages that building needs
	@scripts/deps.sh install build

deps-test: ## and those that `make check` needs
	@scripts/deps.sh install test

demo: ## build, get a small model, show it answering plainly and self-speculatively
	@scripts/deps.sh install demo
	@$(MAKE) --no-print-directory all
	@scripts/demo.sh

check: deps-test ## every test and gate (STEPS="build tests": only these)
	@scripts/check.sh $(STEPS)

gates: ## the structure gates alone
	@scripts/check.sh build gates

san: deps-test ## tests under the address and undefined-behaviour sanitizers
	@scripts/check.sh sanitizers

fuzz: deps-test ## fuzz all parsers for SECONDS each (600)
	@scripts/fuzz.sh $(or $(SECONDS),600)

identity: deps-test ## the whole identity matrix: drafted text equal to plain text in every combination
	@scripts/check.sh build
	@build/tests/test_identity --full

identity-cuda: deps-test ## the same promise on a GPU: 400,000 tokens and more, up to 64 timelines in a call
	@scripts/check.sh build
	@LSK_TEST_DEVICE=cuda LD_LIBRARY_PATH=build build/tests/test_identity --tokens 400000

conformance: deps-test ## token ids against the reference libraries on all texts (check: on a sample)
	@scripts/check.sh build
	@python3 tests/text/conformance.py --full build/tests/test_conformance

peers: all ## the tests against packages from PyPI (2.3 GB, in an environment of their own), which check skips without them
	@scripts/peers.sh

bench: all ## build and run the benches of bench/
	@ninja -C build --quiet bench
	@set -e; for b in build/bench/bench_*; do echo "== $$b"; $$b; done

static: deps ## build-static/layerskip: needs libc and libm alone
	@cmake --preset static --log-level=NOTICE
	@ninja -C build-static --quiet product

install: all ## to PREFIX (/usr/local), under DESTDIR
	@cmake --install build --prefix $(or $(PREFIX),/usr/local)
	@mv build/install_manifest.txt build/installed.txt

uninstall: ## remove what `make install` has put there
	@sed 's|^|$(DESTDIR)|' build/installed.txt | xargs -d '\n' rm -fv --

deb: ## Debian packages in build/deb, looked at by lintian (CUDA=no: without the plugin for GPUs)
	@scripts/deps.sh install package
	@scripts/deb.sh

deb-check: deb ## install them, and nothing else of ours, in a fresh Debian 12 and run a model there (as root)
	@scripts/debootstrap.sh build/deb

clean: ## remove all build folders
	rm -rf build build-*
