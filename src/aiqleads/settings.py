"""The only reader of the environment: one frozen object, prefix `AIQLEADS_`."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

# Users' data stays with the users, and nothing waits for a network that is not there.
for _name in ("BENTOML_DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ.setdefault(_name, "true")


def _default_home() -> Path:
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


class Settings(BaseSettings):
    """Where things are and which doors are open; each field stands in docs/settings.md."""

    model_config = SettingsConfigDict(env_prefix="AIQLEADS_", frozen=True, extra="ignore")

    home: Path = Field(
        default_factory=_default_home,
        description="Root of data, mlruns and reports; "
        "the checkout's root, else the working directory.",
    )
    database_url: str | None = Field(
        default=None,
        description="SQLAlchemy URL of one database; unset, SQLite files under data/.",
    )
    stripe_secret_key: SecretStr | None = Field(
        default=None,
        description="Stripe API key; unset, the offline stand-in answers and the service says so.",
    )
    stripe_webhook_secret: SecretStr | None = Field(
        default=None, description="Signing secret of Stripe's webhooks."
    )
    stripe_api_base: str | None = Field(
        default=None, description="Another address of Stripe's API, for tests."
    )
    encryption_key: SecretStr | None = Field(
        default=None,
        description="32 bytes in base64 that wrap the data key of every person; "
        "unset, data/keys/encryption.key, made on first use.",
    )
    matching_key: SecretStr | None = Field(
        default=None,
        description="32 bytes in base64 for the digests by which people are matched; "
        "unset, data/keys/matching.key, made on first use.",
    )
    feeds: Path | None = Field(
        default=None,
        description="TOML of how each source is reached and proves itself; unset, data/feeds.toml.",
    )
    smtp_host: str | None = Field(
        default=None,
        description="Mail server for leads that go out by e-mail; "
        "unset, the mails are written to data/outgoing/mail.",
    )
    smtp_port: int = Field(default=587, ge=1, le=65535, description="Port of the mail server.")
    smtp_user: str | None = Field(default=None, description="User at the mail server.")
    smtp_password: SecretStr | None = Field(
        default=None, description="Password at the mail server."
    )
    smtp_tls: bool = Field(
        default=True, description="Whether the mail server must encrypt (STARTTLS)."
    )
    mail_from: str = Field(
        default="leads@aiqleads.example", description="Sender of leads that go out by e-mail."
    )
    private_webhooks: bool = Field(
        default=False,
        description="Whether webhooks may go to this machine and to private networks, "
        "and by http; for tests and for one's own network.",
    )
    mlflow_tracking_uri: str | None = Field(
        default=None, description="MLflow's store; unset, mlruns/mlflow.db."
    )
    workers: int = Field(default=2, ge=1, description="Worker processes of `aiqleads serve`.")
    rate_limits: bool = Field(
        default=True,
        description="Whether an agent's key makes at most its tier's requests a minute; "
        "off for load tests.",
    )
    run_key: str = Field(
        default="",
        description="Set by the pipeline for the notebook it runs: a tag of its MLflow run.",
    )
    log_format: Literal["json", "text"] = Field(
        default="text", description="Log lines for machines or for people; always on stderr."
    )

    @cached_property
    def data(self) -> Path:
        """Directory of raw payloads, frames, snapshots, the journal and the databases."""
        return self.home / "data"

    @cached_property
    def feeds_file(self) -> Path:
        """TOML of the sources' secrets, forms and addresses; it need not exist."""
        return self.feeds or self.data / "feeds.toml"

    @cached_property
    def outgoing(self) -> Path:
        """Directory of mails and CSV files with leads for their buyers: personal data."""
        return self.data / "outgoing"

    @cached_property
    def reports(self) -> Path:
        """Directory of executed notebooks, maps and drift reports."""
        return self.home / "reports"

    @cached_property
    def mlruns(self) -> Path:
        """Directory of MLflow's database and artifacts."""
        return self.home / "mlruns"

    @cached_property
    def tracking_uri(self) -> str:
        """MLflow's store as a URI."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.mlruns / 'mlflow.db'}"

    def url(self, room: Literal["leads", "vault", "commerce"]) -> str:
        """SQLAlchemy URL of one of the rooms: ingested leads, keys, or money and holds.

        Embedded they are SQLite files, so that a large ingest never makes a payment or a
        push wait; with `database_url` set all live in that database.
        """
        return self.database_url or f"sqlite:///{self.data / f'{room}.db'}"
