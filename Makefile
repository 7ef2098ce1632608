# RNN Deep Dive. `make lab` and `make test` each work first on a fresh machine: they make .venv and install
# everything into it. Kept to what GNU make 3.81 (macOS) and POSIX sh know.

PYTHON ?= python3
# The version the course is tested with. Where there is none for this Python or system, any torch within
# pyproject.toml's bound does. Give your own to choose a build (README, "torch without CUDA"): it is then taken as is.
TORCH ?= torch==2.13.0
LAB_ARGS ?=
# For those who teach: JupyterLab with nbgrader's panels, on this folder if it is one (README, "To teach with it").
INSTRUCTOR ?=
TEST_ARGS ?=
NB ?=

# Where JupyterLab notes that a presentation is on. One that was on when it ended would hide the menus of the next.
DECK := jupyterlab-slideshow/plugin.jupyterlab-settings

VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/installed.stamp

.PHONY: help lab test bench notebooks slides clean

help:
	@echo 'make lab        open JupyterLab on the notebooks      LAB_ARGS="--port 9999" adds options'
	@echo '                INSTRUCTOR=FOLDER opens it there, with nbgrader'"'"'s panels'
	@[ ! -d tests ] || { \
	echo 'make test       every notebook, and the unit tests    TEST_ARGS="-k bptt" adds options'; \
	echo 'make bench      print the benchmarks'; \
	echo 'make notebooks  re-execute the notebooks in place     NB=notebooks/03_bptt.ipynb takes only that one'; \
	echo 'make slides     HTML slides of them, into slides/     NB=notebooks/03_bptt.ipynb takes only that one'; }
	@echo 'make clean      remove .venv, slides and caches'
	@echo 'The first of them installs everything into .venv; PYTHON=python3.12 and TORCH=... choose what with.'

lab: $(INSTALLED)
	@flags=; \
	if [ "$$(id -u)" = 0 ]; then flags="$$flags --allow-root"; fi; \
	if [ "$$(uname)" != Darwin ] && [ -z "$$DISPLAY$$WAYLAND_DISPLAY" ]; then flags="$$flags --no-browser"; fi; \
	folder=notebooks; \
	if [ -d '$(INSTRUCTOR)' ]; then folder='$(INSTRUCTOR)'; \
	elif [ -n '$(INSTRUCTOR)' ] && [ '$(INSTRUCTOR)' != 1 ]; then echo 'make lab: there is no folder $(INSTRUCTOR)' >&2; exit 1; fi; \
	rm -f "$${JUPYTERLAB_SETTINGS_DIR:-$${JUPYTER_CONFIG_DIR:-$$HOME/.jupyter}/lab/user-settings}/$(DECK)"; \
	if [ -z '$(INSTRUCTOR)' ]; then \
	  export JUPYTER_CONFIG_PATH="$(CURDIR)/lab$${JUPYTER_CONFIG_PATH:+:$$JUPYTER_CONFIG_PATH}"; fi; \
	cd "$$folder" && exec '$(CURDIR)/$(PY)' -m jupyterlab $$flags $(LAB_ARGS)

test: $(INSTALLED)
	@[ -d tests ] || { echo 'make test: a student pack has no tests' >&2; exit 1; }
	@ls notebooks/*.ipynb >/dev/null 2>&1 || { echo 'make test: there is no notebook in notebooks/' >&2; exit 1; }
	@# the notebooks first: the longest files last would leave a core without work
	$(PY) -m pytest notebooks tests -n auto --dist loadfile --no-loadscope-reorder --nbval --nbval-current-env --nbval-cell-timeout=300 $(TEST_ARGS)

bench: $(INSTALLED)
	$(PY) -m rnncourse.bench
	$(PY) -m rnncourse.grading.bench

notebooks: $(INSTALLED)
	$(PY) tools/notebooks.py $(NB)

slides: $(INSTALLED)
	$(PY) tools/slides.py $(NB)

clean:
	rm -rf $(VENV) build slides *.egg-info .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo 'The course needs Python 3.10 or newer; "$(PYTHON)" is missing or older.' >&2; \
	  echo 'Install one, or name it: make lab PYTHON=python3.12' >&2; exit 1; }
	@[ -x $(VENV)/bin/pip ] || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo 'Python could not make a virtual environment: its venv module is incomplete.' >&2; \
	  echo 'On Debian or Ubuntu: apt install python3-venv. Then run make again.' >&2; exit 1; }
ifeq ($(origin TORCH),file)
	@$(PY) -m pip install $(TORCH) 2>$(VENV)/torch.err || { \
	  cat $(VENV)/torch.err >&2; grep -q 'No matching distribution' $(VENV)/torch.err || exit 1; \
	  echo 'No $(TORCH) for this system: taking the torch that pip chooses.'; $(PY) -m pip install torch; }
else
	$(PY) -m pip install $(TORCH)
endif
	$(PY) -m pip install -e '.[test]'
	@touch $@
