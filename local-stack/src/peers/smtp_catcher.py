"""Three mail servers on one folder: plain, STARTTLS with AUTH, implicit TLS with AUTH.

    smtp_catcher.py FOLDER USER PASSWORD PLAIN_PORT STARTTLS_PORT TLS_PORT        (port 0: a free one)

reads   FOLDER/certificate.pem, FOLDER/key.pem
        FOLDER/answers/NNNNNN.json  the answers to the next mails, each removed when used
        FOLDER/otherwise.json       the answer when there is none of those
        FOLDER/refused.json         recipients that are refused, and with which reply
writes  FOLDER/mails/NNNNNN.json    every mail whose content arrived, before it is answered
        FOLDER/ports.json           once it listens
Every file appears whole, by a rename.
"""

import asyncio
import email
import email.policy
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

folder, user, password = sys.argv[1:4]
ports = [int(port) for port in sys.argv[4:7]]


def read(name):
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return json.load(file)


def write(name, value):
    path = os.path.join(folder, name)
    with open(path + ".partial", "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.rename(path + ".partial", path)


def next_answer():
    names = sorted(name for name in os.listdir(os.path.join(folder, "answers")) if name.endswith(".json"))
    if not names:
        return read("otherwise.json")
    answer = read(os.path.join("answers", names[0]))
    os.remove(os.path.join(folder, "answers", names[0]))
    return answer


def text_of(message, kind):
    part = message.get_body(preferencelist=(kind,))
    return None if part is None else part.get_content()


class Catcher:
    def __init__(self, security):
        self.security = security

    async def handle_RCPT(self, server, session, envelope, address, options):
        reply = read("refused.json").get(address)
        if reply is not None:
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        answer = next_answer()
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        count = len(os.listdir(os.path.join(folder, "mails")))
        mail = {
            "security": self.security,
            "encrypted": self.security == "tls" or session.ssl is not None,
            "authenticated": bool(session.authenticated),
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": [[name, str(value)] for name, value in message.items()],
            "text": text_of(message, "plain"),
            "html": text_of(message, "html"),
            "raw": envelope.content.decode("utf-8", "replace"),
            "delivered": answer["delivered"],
            "reply": answer["reply"],
        }
        write(os.path.join("mails", "%06d.json" % (count + 1)), mail)
        if answer["lost"]:
            server.transport.abort()
        return answer["reply"]


def authenticate(server, session, envelope, mechanism, data):
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (user.encode(), password.encode())
    return AuthResult(success=right, handled=False)


async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(os.path.join(folder, "certificate.pem"), os.path.join(folder, "key.pem"))
    login = {"authenticator": authenticate, "auth_required": True}
    loop = asyncio.get_running_loop()
    kinds = [
        ("plain", {}, None),
        ("starttls", {"tls_context": context, "require_starttls": True, **login}, None),
        # The connection is encrypted before the protocol begins, which the library cannot see.
        ("tls", {"auth_require_tls": False, **login}, context),
    ]
    servers = {}
    for (security, options, encrypt), port in zip(kinds, ports):
        def protocol(security=security, options=options):
            return SMTP(Catcher(security), enable_SMTPUTF8=True, hostname="localhost", **options)
        servers[security] = await loop.create_server(protocol, "127.0.0.1", port, ssl=encrypt)
    write("ports.json", {name: server.sockets[0].getsockname()[1] for name, server in servers.items()})
    await asyncio.Event().wait()


asyncio.run(main())
