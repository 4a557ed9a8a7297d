"""`make axe`: every page and mail, in every language, light and dark, narrow and wide, with closed and open menus.

320 pixels are also a window of 1280 at 400 % (WCAG 1.4.10). The exit code is 1 if there is a defect.
"""

import sys
from collections.abc import Iterator
from itertools import product

from looks import gallery
from looks.stage import MAIL_RULES, RULES, Stage, chromium, missing_tool, stage

WIDTHS = (320, 360, 1280)


def main() -> int:
    if missing := missing_tool():
        print(f"Missing: {missing}")
        return 1
    where: dict[str, list[str]] = {}
    checks = 0
    with chromium() as browser:
        for scheme, locale in product(("light", "dark"), gallery.LOCALES):
            with stage(browser, with_axe=True, color_scheme=scheme, reduced_motion="reduce") as on:
                for name, defects in look(on, locale):
                    checks += 1
                    for defect in dict.fromkeys(defects):
                        where.setdefault(defect, []).append(f"{name} ({locale}, {scheme})")
            print(f"{scheme} {locale}: {checks} checks, {len(where)} defects", flush=True)
    for defect, names in where.items():
        print(f"{defect}\n    in {', '.join(names)}")
    return 1 if where else 0


def look(on: Stage, locale: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the defects of each page and mail at each width."""
    mails = {f"mail {name}": mail.html for name, mail in gallery.mails_in(locale).items()}
    for name, html in {**gallery.pages_in(locale), **mails}.items():
        on.show(html)
        rules = MAIL_RULES if html in mails.values() else RULES
        for width in WIDTHS:
            yield f"{name} at {width}", [*on.overflows_at(width), *on.broken_rules(rules)]
        if rules is RULES:
            yield name, on.wrapped_labels_at(360)
            on.open_menus()
            yield f"{name}, open", [*on.overflows_at(WIDTHS[0]), *on.broken_rules(rules)]


if __name__ == "__main__":
    sys.exit(main())
