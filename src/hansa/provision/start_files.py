"""What a kit has besides certificate and settings: a start script, a unit for systemd, and a page to read."""

from __future__ import annotations

from pathlib import Path

from hansa.provision.identity import Identity, Role

START = "start.sh"
UNIT = "hansa.service"
README = "readme.txt"
HOME = Path("/srv/hansa")
"""Where the unit expects the kit (in a folder of its name) and a virtual environment (`venv`)."""

_VERBS = {Role.SERVER: "server", Role.CLIENT: "site"}

_START = """\
#!/bin/sh
# Starts the {verb} of this kit, wherever the kit lies. It runs in the foreground until SIGTERM or Ctrl-C.
# The program is $HANSA if that is set, else `hansa` on PATH, else the package hansa of python3.
set -eu
kit=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
if [ -n "${{HANSA:-}}" ]; then
    exec "$HANSA" {verb} start "$kit" "$@"
fi
if command -v hansa >/dev/null 2>&1; then
    exec hansa {verb} start "$kit" "$@"
fi
for python in python3 python; do
    if "$python" -P -c 'import hansa' >/dev/null 2>&1; then
        exec "$python" -P -m hansa.cli.main {verb} start "$kit" "$@"
    fi
done
echo "start.sh: hansa is not found: install it (pip install hansa), put it on PATH, or set HANSA to its path" >&2
exit 127
"""

_UNIT = """\
# As it stands here, this unit expects the kit in {place}, a user named hansa to whom it belongs,
# and the program in {venv}. Copy it to /etc/systemd/system; what differs on your machine you change in
# the copy or with `systemctl edit`, not here: the files of a kit are signed.
[Unit]
Description=Hansa {verb} {name}
Wants=network-online.target
After=network-online.target time-sync.target

[Service]
User=hansa
WorkingDirectory={place}
Environment=PATH={venv}/bin:/usr/local/bin:/usr/bin:/bin
ExecStart={place}/startup/start.sh
UMask=0077
LimitNOFILE=65536

# Wrong input (exit code 2, such as a kit that was changed) does not get better by itself.
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2

# SIGTERM goes to the program, which ends its jobs; what is left after that is killed.
# A job that needs too much memory ends alone.
KillMode=mixed
TimeoutStopSec=30
OOMPolicy=continue

NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=full
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictSUIDSGID=yes
LockPersonality=yes

[Install]
WantedBy=multi-user.target
"""

_SECRET = """\
The file startup/{stem}.key is a secret: whoever has it can act as {name}. Only the user who
starts the program may read it (mode 600), and it should not travel by e-mail. The files in startup are signed;
none may be changed, added or taken away. If the key may have become known, tell the project's lead.
"""

_README = {
    Role.SERVER: """\
This is the startup kit of the server {name} of the federation {project}.

The server starts jobs, sends models to the sites and puts together what they send back.

Start:   startup/start.sh         (in the foreground; Ctrl-C or SIGTERM ends it)
Service: startup/hansa.service    (for systemd; it says what it expects)
Network: TCP port {port} of {host} must be reachable from the sites and the admins. The server dials nobody.
Check:   it says "listening on port {port}"; an admin sees the sites with: hansa sites --kit ADMIN_KIT
         A line in the log says what is wrong, and what to do.
Needs:   Python 3.11 or newer and: pip install hansa

""",
    Role.CLIENT: """\
This is the startup kit of the site {name} ({org}) in the federation {project}.

The program runs the federation's jobs on data here. To the server goes what a job returns (as a rule model weights
and metrics), and, if an admin asks for it, the log of a job.

Start:   startup/start.sh         (in the foreground; Ctrl-C or SIGTERM ends it)
Service: startup/hansa.service    (for systemd; it says what it expects)
Network: this machine must reach TCP port {port} of {host}. OUTBOUND only: nothing dials in, no port is opened.
Check:   it says "connected to {host}:{port}"; if not, a line says why, and what to do.
Jobs:    each runs in a process of its own, in run_<number> beside the folder startup.
         Code that a job brings along is {custom}.
Needs:   Python 3.11 or newer and: pip install hansa

""",
    Role.ADMIN: """\
This is the startup kit of the admin {name} ({org}) in the federation {project}.

With it you submit jobs, watch and stop them, and fetch models. In this folder:

    hansa sites --kit .
    hansa jobs --kit .
    hansa submit JOB_FOLDER --kit . --follow

Network: this machine must reach TCP port {port} of {host}. OUTBOUND only: nothing dials in.
Needs:   Python 3.11 or newer and: pip install hansa

""",
}


def start_files(identity: Identity, server: tuple[str, int], *, stem: str, allow_custom_code: bool) -> dict[str, str]:
    """The texts of a kit, by file name.

    Args:
        identity: Whose kit it is.
        server: Host and port.
        stem: What certificate and key are called.
        allow_custom_code: Whether jobs may bring code of their own.
    """
    custom = "run (the lead set enable_byoc for this site)" if allow_custom_code else "not run (enable_byoc is not set)"
    facts = {
        "project": identity.project,
        "org": identity.org,
        "name": identity.name,
        "host": f"[{server[0]}]" if ":" in server[0] else server[0],
        "port": server[1],
        "stem": stem,
        "custom": custom,
    }
    texts = {README: (_README[identity.role] + _SECRET).format(**facts)}
    if identity.role in _VERBS:
        texts[START] = _START.format(verb=_VERBS[identity.role])
        texts[UNIT] = unit(identity)
    return texts


def unit(identity: Identity, home: Path = HOME) -> str:
    """The unit for systemd of a server or a site."""
    name = identity.name.replace("%", "%%")
    return _UNIT.format(verb=_VERBS[identity.role], name=name, place=home / name, venv=home / "venv")
