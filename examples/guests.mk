# Guests: C sources to small .wasm files, the same bytes each time. Needs clang with wasm-ld, and wasi-libc for the two
# that use its mathematics or its streams (Debian: clang lld wasi-libc libclang-rt-14-dev-wasm32).
# Compiling and linking are two steps because clang, linking with -O, also runs whatever wasm-opt it finds.
GUEST_CC ?= clang
GUEST_FLAGS = -O2 -std=c11 -Wall -Wextra -Werror -Isdk -fno-ident -ffile-prefix-map=$(CURDIR)=.
GUEST_LINK = -Wl,--strip-all -Wl,--stack-first -Wl,-z,stack-size=16384 -nostartfiles -Wl,--no-entry
GUEST_WASI = --target=wasm32-wasi --sysroot=/usr
GUESTS_BARE = $(addprefix examples/,wildfire/calibrate wildfire/index wildfire/detect wildfire/cluster hello-c/hello streams/rows streams/sum state/tally state/report accel/water)
GUESTS_BARE += $(basename $(wildcard edgeagent/bench/wasm/*.c))

.PHONY: guests
guests:
	@command -v $(GUEST_CC) >/dev/null && command -v wasm-ld >/dev/null || { \
	  echo "make guests needs clang and wasm-ld (Debian: clang lld wasi-libc libclang-rt-14-dev-wasm32)" >&2; exit 1; }
	@set -e; object=$$(mktemp); trap 'rm -f "$$object"' EXIT; \
	for f in $(GUESTS_BARE); do \
	  $(GUEST_CC) --target=wasm32 $(GUEST_FLAGS) -mbulk-memory -c -o "$$object" $$f.c; \
	  $(GUEST_CC) --target=wasm32 $(GUEST_LINK) -nostdlib -o $$f.wasm "$$object"; \
	done; \
	$(GUEST_CC) $(GUEST_WASI) $(GUEST_FLAGS) -c -o "$$object" examples/wildfire/alert.c; \
	$(GUEST_CC) $(GUEST_WASI) $(GUEST_LINK) -o examples/wildfire/alert.wasm "$$object"; \
	$(GUEST_CC) $(GUEST_WASI) $(GUEST_FLAGS) -c -o "$$object" examples/command-c/count.c; \
	$(GUEST_CC) $(GUEST_WASI) -Wl,--strip-all -o examples/command-c/count.wasm "$$object"
	@ls -l $(addsuffix .wasm,$(GUESTS_BARE)) examples/wildfire/alert.wasm examples/command-c/count.wasm
