# Every command for developers and visitors. `make` alone lists them.
PORT ?= 5000
SHEETS ?= instance/sheets
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null)
BIN := .venv/bin
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-emit-index-url --no-annotate
# Each process has its own servers; an idle one takes tests from the others.
PARALLEL := -n auto --maxprocesses 4 --dist worksteal
TESTED := pyproject.toml manage.py gunicorn.conf.py $(shell find app config docs doctor examples templates tests -name node_modules -prune -o -type f ! -name '*.pyc' -print)
# Node.js packages: tools that test pages and mails, and an example's. Without them their tests are skipped, except in CI.
LOOKS := tests/looks/node_modules/.installed
NODE := $(LOOKS) examples/node/node_modules/.installed
# The environment of the applications that `make bench` compares.
PEERS := instance/bench/venv/.installed

VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' app/__init__.py)
WORDS := app/web/translations
PO := --no-wrap --add-location=file

# Python compiles each file once, not once per process of the tests, on any machine.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test security setup install check lint types audit lock bench bench-quick walk oracle fuzz race storm storm-quick plant tools looks axe screenshots sheets journeys schema words snapshot release clean

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /	/' | expand -t 13

demo: .venv/.runs  ## run everything at http://127.0.0.1:5000, with sample accounts and an inbox (PORT= changes it)
	@$(BIN)/python -m examples.demo --port $(PORT)

test: .venv/.develops  ## run the tests
ifeq ($(CI),true)
	@rm -f .coverage; $(MAKE) --no-print-directory .coverage
else
	$(BIN)/python -m pytest $(PARALLEL)
endif

# Only CI and `make check` measure coverage, because it makes the tests a third slower. A failure leaves no file.
.coverage: .venv/.develops $(NODE) $(TESTED)
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report= --cov-fail-under=0

security: .venv/.develops  ## run the tests of docs/security.md, and print its table
	$(BIN)/python -m pytest $(PARALLEL) -m requirement --security-table

setup: .venv/.develops  ## install everything for running, tests and checks into .venv

install: .venv/.runs  ## install only what runs Sparekey

check: lint types audit .coverage  ## lint, types, audit and coverage; runs the tests, unless CI's `make test` just did
	$(BIN)/coverage report --show-missing --skip-covered

lint: .venv/.develops
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.develops
	$(BIN)/mypy

audit: .venv/.develops  ## look for known vulnerabilities in the requirements, if their list can be reached
	@output=$$($(BIN)/pip-audit --requirement requirements.txt --require-hashes --disable-pip --progress-spinner off --timeout 10 2>&1); \
		status=$$?; echo "$$output" | grep -v "could not be audited"; [ $$status -eq 0 ] || \
		if echo "$$output" | grep -q "known vulnerabilit"; then exit 1; else echo "The list of vulnerabilities could not be reached."; fi

lock: .venv/.develops  ## compile requirements*.in (needs uv; UPGRADE=--upgrade takes the newest versions)
	$(COMPILE) $(UPGRADE) requirements.in -o requirements.txt
	$(COMPILE) $(UPGRADE) -c requirements.txt requirements-dev.in -o requirements-dev.txt

bench: .venv/.develops $(PEERS)  ## beside the alternatives; messages a second, a million users: docs/performance.md (35 minutes)
	$(BIN)/python bench/compare.py --results bench/results
	$(BIN)/python bench/deliveries.py --results bench/results
	$(BIN)/python bench/scale.py --results bench/results
	$(BIN)/python bench/browser.py --results bench/results
	$(BIN)/python bench/report.py

bench-quick: .venv/.develops  ## requests, redemption and mails beside stock Flask-Security, in two minutes
	@$(BIN)/python bench/quick.py

walk: .venv/.develops  ## count the calls, modules and moves in each step of a recovery
	@PYTHONPATH=.:tests $(BIN)/python tests/support/walk.py

oracle: .venv/.develops  ## does the time of an answer or a mail reveal accounts? 1,000 requests and 400 mails of each kind (an hour)
	$(BIN)/python bench/oracle.py
	$(BIN)/python bench/queue_oracle.py

fuzz: .venv/.develops  ## 500 random requests for each operation of the JSON API
	OPENAPI_EXAMPLES=500 $(BIN)/python -m pytest tests/pages/test_openapi.py

race: .venv/.develops  ## 64 clients redeem one link at once, 32 beside a writing application; 20 rounds on each database
	RACE_ROUNDS=20 $(BIN)/python -m pytest -v -s -k "64 or 32" tests/faults/test_deployment.py tests/recovery/test_foreign_redemption.py

storm: .venv/.develops  ## SIGKILLs, outages and races on both databases; prints a balance (20 minutes)
	STORM_REQUESTS=1000 STORM_KILLS=36 WEBHOOK_KILLS=30 OUTAGE_SECONDS=60 RACE_ROUNDS=200 ROTATIONS="sqlite postgresql" \
		$(BIN)/python -m pytest -v -s tests/faults \
		-k "storm or 64 or while_the_relay or no_event_is_lost or keys_change or lost_commits"

storm-quick: .venv/.develops  ## a short storm and race on both databases (three minutes)
	STORM_REQUESTS=100 STORM_KILLS=6 RACE_ROUNDS=3 \
		$(BIN)/python -m pytest -v -s tests/faults/test_storm.py tests/faults/test_deployment.py -k "storm or 64"

journeys: .venv/.develops  ## recover, confirm, move and sign in by form and in JSON, with each of Flask-Security's settings changed (3 minutes)
	JOURNEYS=each $(BIN)/python -m pytest -v tests/pages/test_journeys.py

plant: .venv/.develops  ## plant defects in a copy, one at a time, and see which test catches each (20 minutes; ONLY= selects some)
	@$(BIN)/python tests/support/plant.py $(ONLY)

tools: $(NODE)  ## install the tools that test pages and mails, and an example's packages (needs Node.js)

looks: .venv/.develops $(LOOKS)  ## test with mail programs' rules, a spam filter and Lighthouse (needs Chromium, SpamAssassin)
	PYTHONPATH=.:tests $(BIN)/python tests/looks/verdicts.py

axe: .venv/.develops $(LOOKS)  ## axe on every page and mail, in five languages, light and dark, at 320 (400 % zoom), 360 and 1280 pixels
	PYTHONPATH=.:tests $(BIN)/python tests/looks/axe.py

screenshots: .venv/.develops  ## take the README's pictures (needs Chromium)
	PYTHONPATH=.:tests $(BIN)/python tests/looks/screenshots.py

sheets: .venv/.develops  ## take pictures of every page and mail, into SHEETS=, in LOCALES= (needs Chromium)
	PYTHONPATH=.:tests $(BIN)/python tests/looks/contact_sheets.py $(SHEETS) $(LOCALES)

schema: .venv/.runs  ## write the JSON Schema of the settings file, for your editor, to instance/sparekey.schema.json
	@mkdir -p instance && $(BIN)/python manage.py config schema > instance/sparekey.schema.json

words: .venv/.develops  ## update the translation catalogs after texts have changed
	$(BIN)/pybabel --quiet extract -F pyproject.toml -k _l -k N_ $(PO) --omit-header --sort-by-file -o $(WORDS)/messages.pot .
	@printf '%s\n' 'msgid ""' 'msgstr ""' '"Content-Type: text/plain; charset=utf-8\n"' '' | cat - $(WORDS)/messages.pot > $(WORDS)/new.pot
	@mv $(WORDS)/new.pot $(WORDS)/messages.pot
	for po in $(WORDS)/*.po; do $(BIN)/pybabel --quiet update --no-wrap --ignore-pot-creation-date --no-fuzzy-matching --ignore-obsolete -D messages -i $(WORDS)/messages.pot -l $$(basename $$po .po) -o $$po; done

snapshot: .venv/.develops  ## write the database of this version as SQL to tests/db/, for tests of the upgrade (needs PostgreSQL)
	PYTHONPATH=.:tests $(BIN)/python -m support.snapshot

release: .venv/.develops  ## build the last commit into dist/: sources, schema, pictures, SHA-256 sums (needs Chromium)
	@test -z "$$(git status --porcelain)" || { echo "Commit first: the archive holds what is committed."; exit 1; }
	rm -rf dist && mkdir dist
	git archive --prefix=sparekey-$(VERSION)/ --output=dist/sparekey-$(VERSION).tar.gz HEAD
	$(BIN)/python manage.py config schema > dist/sparekey-$(VERSION).schema.json
	$(MAKE) --no-print-directory sheets SHEETS=dist/sheets LOCALES=en
	cd dist && find * -type f | sort | xargs sha256sum > SHA256SUMS

clean:  ## remove .venv, tools, caches and the demo's data
	rm -rf .venv tests/looks/node_modules examples/node/node_modules examples/*/.venv examples/*/shop.db instance dist .coverage .pytest_cache .mypy_cache .ruff_cache

.venv/.runs: requirements.txt
	$(call install,requirements.txt)
	@touch $@

.venv/.develops: requirements-dev.txt
	$(call install,requirements-dev.txt)
	@touch $@ .venv/.runs

$(NODE): %/node_modules/.installed: %/package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix $*
	@touch $@

$(PEERS): bench/peers/requirements.txt | .venv/.develops
	$(BIN)/python -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

ifdef UV
define install
	@test -x $(BIN)/python || uv venv --quiet --python $(PYTHON) .venv
	uv pip install --quiet --python $(BIN)/python --require-hashes -r $(1)
endef
else
define install
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
endef
endif
