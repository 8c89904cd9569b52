"""An app of one web application, so that the process around it can be tried without MONAI Label."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cinelabel.serving.process import free_port
from cinelabel.serving.settings import ServerSettings

WEB_APPLICATION = '''
import hashlib, json, logging, os, sys, time
from contextlib import asynccontextmanager
from pathlib import Path

from cinelabel.core.errors import InputError
from fastapi import FastAPI, Request

logger = logging.getLogger("lib.server")
conf = json.loads(os.environ["MONAI_LABEL_APP_CONF"])


@asynccontextmanager
async def lifespan(app):
    broken = Path(os.environ["MONAI_LABEL_APP_DIR"], "broken")
    if broken.exists():
        raise eval(broken.read_text())
    yield
    if Path(os.environ["MONAI_LABEL_APP_DIR"], "stuck").exists():
        time.sleep(60)
    Path(conf["settings"]).with_name("ended").touch()


app = FastAPI(lifespan=lifespan)


@app.get("/health/live")
def live(request: Request):
    return {"conf": conf, "client": request.client.host, "path": sys.path, "folder": os.getcwd()}


@app.get("/compute")
def compute():
    """Never returns, and never lets go for longer than a moment: an inference."""
    Path(conf["settings"]).with_name("computing").touch()
    while True:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1000)


@app.get("/log")
def log(text: str):
    logging.getLogger("monailabel").info("chatter of MONAI Label")
    logger.warning("Left out: %s", text, extra={"fields": {"case": "c1"}})
    try:
        open(text)
    except OSError:
        logger.exception("cannot read")
'''


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    """Of a server for that app."""
    app = tmp_path / "app"
    (app / "lib").mkdir(parents=True)
    (app / "lib" / "__init__.py").touch()
    (app / "lib" / "server.py").write_text(WEB_APPLICATION)
    for name in ("studies", "workspace"):
        (tmp_path / name).mkdir()
    return ServerSettings(
        studies=tmp_path / "studies",
        workspace=tmp_path / "workspace",
        app=app,
        port=free_port(),
    )


@pytest.fixture
def secure(settings: ServerSettings, tmp_path: Path) -> ServerSettings:
    """The same with TLS, by a certificate that signs itself."""
    certificate, key = self_signed(tmp_path, "127.0.0.1")
    return replace(settings, certificate=certificate, key=key)


def self_signed(folder: Path, address: str) -> tuple[Path, Path]:
    """Certificate and key for an address, in files."""
    pytest.importorskip("cryptography", reason="makes the certificates of these tests")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cine.example")])
    names: Any = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = (folder / "certificate.pem", folder / "key.pem")
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    paths[1].chmod(0o600)
    return paths


Certificates = Callable[[Path, str], tuple[Path, Path]]


@pytest.fixture
def certificates() -> Certificates:
    """Makes a certificate and its key in a folder."""
    return self_signed
