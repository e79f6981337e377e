//! A mail server (`aiosmtpd`, installed from the Python index on first use) that keeps every mail for the test to read,
//! and fails when the test wants it to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde::{Deserialize, Serialize};

use super::program::Program;
use crate::process::remove_if_there;
use crate::tools::Tools;
use crate::tools::python::Hashes;

const REQUIREMENTS: &str = include_str!("../../requirements/smtp.txt");
const CATCHER: &str = include_str!("smtp_catcher.py");
const USER: &str = "vigie";
const PASSWORD: &str = "a password for tests";
const READY_WITHIN: Duration = Duration::from_mins(1);

/// How a connection is protected. Each way has a port of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Not at all; no login is offered.
    Plain,
    /// STARTTLS, and then a login, are demanded.
    StartTls,
    /// TLS from the first byte, and then a login is demanded.
    Tls,
}

/// What becomes of one mail after its content has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 250; it is delivered.
    Accept,
    /// This reply; it is not delivered. `451 …` invites to try again, `554 …` does not.
    Refuse(String),
    /// It is delivered, and the connection is closed without a reply.
    AnswerLost,
}

/// One mail whose content arrived.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Mail {
    /// The port it came in by.
    pub security: Security,
    /// Whether the connection was encrypted.
    pub encrypted: bool,
    /// Whether the sender had logged in.
    pub authenticated: bool,
    /// Envelope sender.
    pub from: String,
    /// Envelope recipients that were not refused.
    pub to: Vec<String>,
    /// Name and decoded value of each header, in order.
    pub headers: Vec<(String, String)>,
    /// The decoded text part.
    pub text: Option<String>,
    /// The decoded HTML part.
    pub html: Option<String>,
    /// As it was sent.
    pub raw: String,
    /// Whether it reached its recipients.
    pub delivered: bool,
    /// The reply, also if it was lost.
    pub reply: String,
}

impl Mail {
    /// The first header of this name, whatever the case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The decoded subject; empty if there is none.
    pub fn subject(&self) -> &str {
        self.header("subject").unwrap_or_default()
    }
}

/// A running mail server. Dropping it stops it and throws its mails away.
#[derive(Debug)]
pub struct Smtp {
    program: Arc<Program>,
    ports: Ports,
    authority_pem: String,
    scripted: AtomicUsize,
    refused: Mutex<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Ports {
    plain: u16,
    starttls: u16,
    tls: u16,
}

#[derive(Serialize)]
struct WrittenAnswer<'a> {
    delivered: bool,
    lost: bool,
    reply: &'a str,
}

impl Smtp {
    /// Installs the library if necessary, starts the server on three free loopback ports and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be installed (says what to install), or does not start (quotes the end of its log).
    pub async fn start() -> anyhow::Result<Self> {
        let start = tokio::task::spawn_blocking(|| {
            let packages = Tools::default()
                .python_packages("aiosmtpd-1.4.6", REQUIREMENTS, Hashes::Pinned)
                .context("the mail server for tests")?;
            let program = Program::prepare("smtp", packages)?;
            let authority_pem = fill(program.folder())?;
            let ports = launch(&program, Ports::default())?;
            Ok(Self {
                program: Arc::new(program),
                ports,
                authority_pem,
                scripted: AtomicUsize::new(0),
                refused: Mutex::default(),
            })
        });
        start
            .await
            .context("the task that starts the mail server panicked")?
    }

    /// The name in its certificate, which must be used to connect: `localhost`.
    pub fn host(&self) -> &'static str {
        "localhost"
    }

    /// Its port for this kind of connection.
    pub fn port(&self, security: Security) -> u16 {
        match security {
            Security::Plain => self.ports.plain,
            Security::StartTls => self.ports.starttls,
            Security::Tls => self.ports.tls,
        }
    }

    /// Name for the login.
    pub fn user(&self) -> &'static str {
        USER
    }

    /// Password for the login.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// The certificate authority to trust, in PEM. There is also a file of it, [`Self::authority_file`].
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// The file with [`Self::authority_pem`].
    pub fn authority_file(&self) -> PathBuf {
        self.program.folder().join("authority.pem")
    }

    /// What becomes of the next mails, in order; after them comes what [`Smtp::otherwise`] set.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) -> anyhow::Result<()> {
        for answer in answers {
            let number = self.scripted.fetch_add(1, Ordering::Relaxed);
            write_whole(
                &self.program.folder().join(format!("answers/{number:06}.json")),
                &written(&answer),
            )?;
        }
        Ok(())
    }

    /// What becomes of every mail that the script does not cover. [`Answer::Accept`] at first.
    pub fn otherwise(&self, answer: &Answer) -> anyhow::Result<()> {
        write_whole(&self.program.folder().join("otherwise.json"), &written(answer))
    }

    /// Refuses this recipient with this reply (`550 no such user`) from now on, or with `None` no more.
    pub fn refuse_recipient(&self, address: &str, reply: Option<&str>) -> anyhow::Result<()> {
        let mut refused = self.refused();
        match reply {
            Some(reply) => refused.insert(address.to_owned(), reply.to_owned()),
            None => refused.remove(address),
        };
        write_whole(&self.program.folder().join("refused.json"), &*refused)
    }

    /// Every mail whose content arrived, in order, also those that were refused then.
    pub fn attempts(&self) -> anyhow::Result<Vec<Mail>> {
        let mut files = Vec::new();
        for entry in self.program.folder().join("mails").read_dir()? {
            files.push(entry?.path());
        }
        files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        files
            .iter()
            .map(|file| Ok(serde_json::from_slice(&std::fs::read(file)?)?))
            .collect()
    }

    /// The mails that reached their recipients, in order.
    pub fn delivered(&self) -> anyhow::Result<Vec<Mail>> {
        let attempts = self.attempts()?.into_iter();
        Ok(attempts.filter(|mail| mail.delivered).collect())
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.program.pid()
    }

    /// Its folder, with log and mails.
    pub fn folder(&self) -> &Path {
        self.program.folder()
    }

    /// `kill -9`. Returns when the process is gone; its ports are closed then.
    pub async fn kill(&self) -> anyhow::Result<()> {
        let program = self.program.clone();
        tokio::task::spawn_blocking(move || program.kill())
            .await
            .context("the task panicked")?
    }

    /// Starts it again on the same ports with the same mails; stops it first if it runs.
    pub async fn restart(&self) -> anyhow::Result<()> {
        let (program, ports) = (self.program.clone(), self.ports);
        let restart = tokio::task::spawn_blocking(move || {
            program.stop()?;
            launch(&program, ports)
        });
        restart.await.context("the task panicked")??;
        Ok(())
    }

    fn refused(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn written(answer: &Answer) -> WrittenAnswer<'_> {
    match answer {
        Answer::Accept => WrittenAnswer {
            delivered: true,
            lost: false,
            reply: "250 OK",
        },
        Answer::Refuse(reply) => WrittenAnswer {
            delivered: false,
            lost: false,
            reply,
        },
        Answer::AnswerLost => WrittenAnswer {
            delivered: true,
            lost: true,
            reply: "250 OK",
        },
    }
}

/// Puts everything there that the catcher reads. Gives the certificate authority in PEM.
fn fill(folder: &Path) -> anyhow::Result<String> {
    for name in ["answers", "mails"] {
        std::fs::create_dir(folder.join(name))?;
    }
    write_whole(&folder.join("otherwise.json"), &written(&Answer::Accept))?;
    write_whole(&folder.join("refused.json"), &BTreeMap::<String, String>::new())?;
    std::fs::write(folder.join("smtp_catcher.py"), CATCHER)?;
    let certificates = certificates().context("make certificates")?;
    std::fs::write(folder.join("authority.pem"), &certificates.authority)?;
    std::fs::write(folder.join("certificate.pem"), &certificates.certificate)?;
    std::fs::write(folder.join("key.pem"), &certificates.key)?;
    Ok(certificates.authority)
}

struct Certificates {
    authority: String,
    certificate: String,
    key: String,
}

/// An authority and a certificate by it: rustls refuses a server certificate that is its own authority.
fn certificates() -> Result<Certificates, rcgen::Error> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let certificate = server.signed_by(&key, &issuer)?;
    Ok(Certificates {
        authority: authority_certificate.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn launch(program: &Program, ports: Ports) -> anyhow::Result<Ports> {
    let folder = program.folder();
    let listening = folder.join("ports.json");
    remove_if_there(&listening)?;
    let mut arguments = vec![
        folder.join("smtp_catcher.py").display().to_string(),
        folder.display().to_string(),
    ];
    arguments.extend([USER, PASSWORD].map(str::to_owned));
    arguments.extend([ports.plain, ports.starttls, ports.tls].map(|port| port.to_string()));
    program.launch(&arguments, &[], READY_WITHIN, || {
        match std::fs::read(&listening) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
}

/// Written beside its place and renamed: the reader sees all of it or nothing.
fn write_whole(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, serde_json::to_vec(value)?)?;
    std::fs::rename(&partial, path)?;
    Ok(())
}
