"""What a release says of itself is one thing everywhere, and what it brings along may be used."""

import importlib.util

from tests.release.conftest import ROOT
from tests.test_extras import PROJECT


def test_the_release_has_one_version():
    version = PROJECT["version"]
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_licences_need_no_look():
    spec = importlib.util.spec_from_file_location("licences", ROOT / "scripts/licences.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert [script.verdict(words) for words in ("MIT License", "Apache 2.0", "MPL-2.0")] == ["free", "free", "beside"]
    assert [script.verdict(words) for words in ("", "GPL-3.0-or-later", "AGPL", "non-commercial")] == ["look"] * 4
    assert script.verdict("GNU Lesser General Public License v2 or later (LGPLv2+)") == "beside"
    assert script.main([]) == 0
