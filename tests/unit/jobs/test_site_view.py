"""A site as the server sees it."""

from __future__ import annotations

import json

from hansa.jobs.site_view import SiteView


def test_a_site_survives_its_plain_form_and_takes_no_notice_of_news() -> None:
    view = SiteView(
        "site-1", "org", connected=False, since=9.0, tags=("gpu",), jobs=("0001-x",), gpus=(0, 2), note="gone"
    )
    plain = json.loads(json.dumps({**view.as_dict(), "news": 1}))
    assert SiteView.from_dict(plain) == view


def test_a_name_is_enough() -> None:
    assert SiteView.from_dict({"name": "site-1"}) == SiteView("site-1")
