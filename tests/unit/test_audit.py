"""Known vulnerabilities are found in the reports of pip-audit and npm, and what was not looked up is told."""

from __future__ import annotations

import json

import pytest

from local import audit

PIP = {
    "dependencies": [
        {"name": "six", "version": "1.17.0", "vulns": []},
        {
            "name": "jinja2",
            "version": "2.11.1",
            "vulns": [{"id": "PYSEC-2021-66", "fix_versions": ["2.11.3"], "aliases": ["CVE-2020-28493"]}],
        },
        {"name": "own", "skip_reason": "Dependency not found on PyPI and could not be audited"},
    ],
    "fixes": [],
}
NPM = {
    "auditReportVersion": 2,
    "vulnerabilities": {
        "a": {"name": "a", "range": "<2", "via": ["b"]},
        "b": {
            "name": "b",
            "range": "<=1.2",
            "via": [{"source": 1, "url": "https://github.com/advisories/GHSA-xxxx", "range": "<=1.2"}],
        },
    },
}


def test_what_is_known_of_python_packages_is_found():
    report = audit.python(json.dumps(PIP), 3)
    assert (report.looked_up, report.missed) == (2, 1)
    (hole,) = report.holes
    assert (hole.package, hole.id) == ("jinja2 2.11.1", "PYSEC-2021-66")


def test_what_is_known_of_npm_packages_is_found_once():
    report = audit.npm(json.dumps(NPM), 24)
    assert (report.looked_up, report.missed) == (24, 0)
    assert [(hole.package, hole.id) for hole in report.holes] == [("b <=1.2", "GHSA-xxxx")]


@pytest.mark.parametrize("told", ["", "no JSON", "[]", '{"message": "405 Method Not Allowed"}'])
def test_advisories_that_cannot_be_reached_are_no_holes_and_not_passed_over(told):
    assert audit.npm(told, 24) == audit.Report(0, 24)
    assert audit.python(told, 19) == audit.Report(0, 19)


@pytest.mark.parametrize(("explained", "code"), [({}, 1), ({"CVE-2020-28493": "not used"}, 0)])
def test_a_hole_fails_unless_it_is_explained(monkeypatch, capsys, explained, code):
    monkeypatch.setattr(audit, "EXPLAINED", explained)
    monkeypatch.setattr(audit, "_reports", lambda: [("the functions", audit.python(json.dumps(PIP), 3))])
    assert audit.main() == code
    printed = capsys.readouterr().out
    assert "2 packages looked up; NOT looked up, as no advisories can be reached: 1" in printed
    assert "jinja2 2.11.1: PYSEC-2021-66" in printed
