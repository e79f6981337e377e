//! Mail by SMTP: STARTTLS or TLS from the first byte; plain text only to this very machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chassis::Secret;
use chassis::transport::is_loopback;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::{SendError, chain};

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Plain greeting, then TLS before anything else is said; usually port 587.
    Starttls,
    /// TLS from the first byte; usually port 465.
    Tls,
    /// None. Only to a loopback address.
    None,
}

/// Where and how to hand over mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpSettings {
    /// Host name or address; checked against the certificate.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub encryption: Encryption,
    /// User name and password, when the server wants them.
    pub login: Option<Login>,
    /// PEM file of a certificate authority to trust besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// Bound of connecting and of each command.
    pub timeout: Duration,
}

/// A user name and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// Settings that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum SmtpSetupError {
    /// The certificate authority could not be read.
    #[error("cannot read the CA file `{}`", path.display())]
    ReadCa {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file holds no certificate.
    #[error("the CA file `{}` holds no PEM certificate", .0.display())]
    NoCertificate(PathBuf),
    /// TLS could not be set up.
    #[error("TLS cannot be set up for `{host}`")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        #[source]
        source: lettre::transport::smtp::Error,
    },
    /// Plain text to another machine.
    #[error("plain SMTP is allowed only to a loopback address, and `{0}` is none; use starttls or tls")]
    PlainToRemote(String),
}

/// An SMTP client. Each mail has a connection of its own: of a pool, one that was given up half-way would be handed to the next mail
/// in the middle of a transaction.
#[derive(Clone)]
pub struct SmtpOutlet {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    /// Bound of one whole delivery: connecting, and several commands.
    whole: Duration,
}

/// Commands of one delivery that may each take the whole timeout before we give up on it.
const COMMANDS_PER_MAIL: u32 = 4;

impl SmtpOutlet {
    /// Prepares a client; connects only when a mail is sent.
    ///
    /// # Errors
    /// [`SmtpSetupError`], when the CA file is unreadable or plain text would leave this machine.
    pub fn new(settings: &SmtpSettings) -> Result<Self, SmtpSetupError> {
        let tls = match settings.encryption {
            Encryption::None if is_loopback(&settings.host) => Tls::None,
            Encryption::None => return Err(SmtpSetupError::PlainToRemote(settings.host.clone())),
            Encryption::Starttls => Tls::Required(tls_parameters(settings)?),
            Encryption::Tls => Tls::Wrapper(tls_parameters(settings)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
            .port(settings.port)
            .tls(tls)
            .timeout(Some(settings.timeout));
        if let Some(login) = &settings.login {
            builder = builder.credentials(Credentials::new(
                login.username.clone(),
                login.password.expose().to_owned(),
            ));
        }
        Ok(Self {
            transport: builder.build(),
            whole: settings.timeout * COMMANDS_PER_MAIL,
        })
    }

    /// Hands one mail to the server.
    ///
    /// # Errors
    /// [`SendError::Permanent`] for replies of the 5xx class that are about the mail, [`SendError::Deferred`] for those of the 4xx
    /// class, [`SendError::Transient`] for everything else.
    pub async fn send(&self, mail: Message) -> Result<(), SendError> {
        // Given up, it takes its connection with it.
        match tokio::time::timeout(self.whole, self.transport.send(mail)).await {
            Ok(Ok(_)) => Ok(()),
            // A refused connection is neither permanent nor transient to lettre: only a 5xx reply is final.
            Ok(Err(error)) if error.is_permanent() && !is_about_us(&error) => {
                Err(SendError::Permanent(chain(&error)))
            }
            Ok(Err(error)) if error.is_transient() && !is_about_us(&error) => {
                Err(SendError::Deferred(chain(&error)))
            }
            Ok(Err(error)) => Err(SendError::Transient(chain(&error))),
            Err(_) => Err(SendError::Transient(format!(
                "no answer within {} s",
                self.whole.as_secs()
            ))),
        }
    }
}

/// A server that closes (421), a login that is refused, be it for a moment, and commands out of order (503) are the server's, the
/// settings' and the connection's fault: none says anything of the mail. 454, 530, 534, 535, 538 are of RFC 4954.
fn is_about_us(error: &lettre::transport::smtp::Error) -> bool {
    let code = error.status().map(u16::from);
    code.is_some_and(|code| [421, 454, 503, 530, 534, 535, 538].contains(&code))
}

fn tls_parameters(settings: &SmtpSettings) -> Result<TlsParameters, SmtpSetupError> {
    let in_tls = |source| SmtpSetupError::Tls {
        host: settings.host.clone(),
        source,
    };
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.ca_file {
        for certificate in read_certificates(path)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build_rustls().map_err(in_tls)
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate>, SmtpSetupError> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let pem = std::fs::read_to_string(path).map_err(|source| SmtpSetupError::ReadCa {
        path: path.to_path_buf(),
        source,
    })?;
    // lettre takes one certificate at a time; a bundle holds several.
    let none = || SmtpSetupError::NoCertificate(path.to_path_buf());
    let certificates: Vec<Certificate> = pem
        .split(BEGIN)
        .skip(1)
        .map(|rest| Certificate::from_pem(format!("{BEGIN}{rest}").as_bytes()).map_err(|_| none()))
        .collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        Err(none())
    } else {
        Ok(certificates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(host: &str, encryption: Encryption) -> SmtpSettings {
        SmtpSettings {
            host: host.to_owned(),
            port: 25,
            encryption,
            login: Some(Login {
                username: "u".to_owned(),
                password: Secret::new("hunter2"),
            }),
            ca_file: None,
            timeout: Duration::from_secs(1),
        }
    }

    #[tokio::test]
    async fn plain_text_never_leaves_the_machine() {
        for host in ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST"] {
            assert!(
                SmtpOutlet::new(&settings(host, Encryption::None)).is_ok(),
                "{host}"
            );
        }
        for host in [
            "mail.example.org",
            "10.0.0.1",
            "127.0.0.1.example.org",
            "localhost.example.org",
            "0.0.0.0",
        ] {
            let refusal = SmtpOutlet::new(&settings(host, Encryption::None))
                .err()
                .expect(host);
            assert!(
                matches!(refusal, SmtpSetupError::PlainToRemote(_)),
                "{host}: {refusal}"
            );
        }
    }

    #[test]
    fn a_ca_file_must_hold_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(matches!(
            read_certificates(&path),
            Err(SmtpSetupError::ReadCa { .. })
        ));
        std::fs::write(&path, "not a certificate").unwrap();
        assert!(matches!(
            read_certificates(&path),
            Err(SmtpSetupError::NoCertificate(_))
        ));
    }

    #[test]
    fn a_password_is_never_shown() {
        assert!(!format!("{:?}", settings("localhost", Encryption::None)).contains("hunter2"));
    }
}
