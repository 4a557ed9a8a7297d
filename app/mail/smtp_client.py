"""smtplib's client with two differences: its time-out for a whole mail, and pipelining."""

from __future__ import annotations

import smtplib
import socket
from typing import Any

# A relay may look at a mail for long before it takes it; who hangs up too early sends it twice. RFC 5321
# §4.5.3.2.6 says 10 minutes, which is longer than anybody waits for a link.
DATA_SECONDS = 120


class PatientSmtp(smtplib.SMTP):
    """Waits longer for the reply to a whole mail than for any other, and for a relay that is far away twice a
    mail, not four times: MAIL, RCPT and DATA go out in one piece where it takes that (RFC 2920)."""

    has_sent_data = False

    def deliver(self, from_addr: str, to_addr: str, data: bytes, options: tuple[str, ...]) -> None:
        """Raises what `sendmail` does; then the connection is of no use any more."""
        if not self.has_extn("pipelining"):
            self.sendmail(from_addr, [to_addr], data, options)
            return
        if "SMTPUTF8" in options:
            self.command_encoding = "utf-8"
        size = (f"SIZE={len(data)}",) if self.has_extn("size") else ()
        sender = " ".join((f"MAIL FROM:{smtplib.quoteaddr(from_addr)}", *size, *options))
        recipient = f"RCPT TO:{smtplib.quoteaddr(to_addr)}"
        if set(sender + recipient) & set("\r\n"):
            raise ValueError("an address holds the end of a line")
        self.send(f"{sender}\r\n{recipient}\r\nDATA\r\n")
        if self.sock and hasattr(socket, "TCP_QUICKACK"):
            # A relay that sends its replies one by one would wait 40 ms for our system's word on the first.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self.has_sent_data = True
        code, said = self.getreply()
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, said, from_addr)
        code, said = self.getreply()
        if code not in (250, 251):
            raise smtplib.SMTPRecipientsRefused({to_addr: (code, said)})
        code, said = self.data(data)
        if code != 250:
            raise smtplib.SMTPDataError(code, said)

    def putcmd(self, cmd: str, args: str = "") -> None:
        """As smtplib's; but a DATA that went out with MAIL is not sent again when `data` means to."""
        if cmd == "data" and self.has_sent_data:
            self.has_sent_data = False
        else:
            super().putcmd(cmd, args)

    def data(self, msg: Any) -> tuple[int, bytes]:
        assert self.sock is not None
        self.sock.settimeout(max(DATA_SECONDS, self.timeout))
        try:
            return super().data(msg)
        finally:
            if self.sock is not None:
                self.sock.settimeout(self.timeout)


class PatientSmtpSsl(PatientSmtp, smtplib.SMTP_SSL):
    """The same with TLS from the start."""
