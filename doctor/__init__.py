"""A black-box scanner for a running Sparekey: it sees a deployment as a browser or an attacker does.

The scanner speaks HTTP, reads neither settings nor database, and imports nothing from `app/`, so it works
from another machine. Each module of checks holds the kinds of findings that its checks yield:

    connectivity    DNS, TLS, redirects from http, Sparekey's own address
    headers         security headers and cookies of each page
    attacks         Host header injection, open redirects, CSRF, exposed files
    readiness       /healthz and /readyz
    link_delivery   the reset link, from request to form
    enumeration     differences in answers or timing that reveal who has an account
    dns_records     SPF, DKIM and DMARC of the sender's domain; `manage.py check --live` runs them

    http_client     one request, one response         findings    finding and its kind
    probe_session   one visit, and the check type     output      text and JSON reports
    rank_test       Mann-Whitney's U                  cli         the command
"""
