"""A black-box scanner for a running Sparekey, which sees a deployment as a browser or an attacker does.

The scanner speaks HTTP, reads neither settings nor database, and imports nothing from `app/`, so it works
from another machine. `findings.toml` has the texts of all findings. The checks:

    connectivity    DNS, TLS, the redirect from http, Sparekey's public address
    headers         security headers of each page
    cookies         attributes of each cookie
    attacks         Host header injection, open redirects, CSRF, exposed files
    readiness       /healthz and /readyz
    link_delivery   the reset link, from request to form
    enumeration     responses or response times that reveal who has an account
    sources         headers that change the source of a request, visitors who share one
    dns_records     SPF, DKIM and DMARC of the sender's domain; `manage.py check --live` runs them

    http_client     requests and responses            findings    kinds of findings
    base_url        the deployment's address          output      text and JSON reports
    scan            one scan, and the check type      cli         the command
    rank_test       the Mann-Whitney U test
"""
