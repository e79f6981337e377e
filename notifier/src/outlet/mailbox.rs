//! A folder of mails for development: one `.eml` file per alert and recipient, to open with any mail reader.

use std::path::{Path, PathBuf};

use lettre::Message;

use super::{SendError, chain};

/// Writes mails into one folder.
#[derive(Debug, Clone)]
pub struct MailboxOutlet {
    folder: PathBuf,
}

impl MailboxOutlet {
    /// A mailbox in `folder`, which is made when the first mail is written.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Where the mails lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes one mail as `NAME.eml`; a mail written twice under one name is there once.
    ///
    /// # Errors
    /// [`SendError::Transient`] when the folder cannot be written: space and rights can come back.
    pub async fn write(&self, name: &str, mail: &Message) -> Result<PathBuf, SendError> {
        let path = self.folder.join(format!("{name}.eml"));
        let partial = self.folder.join(format!(".{name}.part"));
        let written = async {
            tokio::fs::create_dir_all(&self.folder).await?;
            tokio::fs::write(&partial, mail.formatted()).await?;
            // Renamed last, so nobody reads half a mail.
            tokio::fs::rename(&partial, &path).await
        };
        written.await.map_err(|error| {
            SendError::Transient(format!("cannot write `{}`: {}", path.display(), chain(&error)))
        })?;
        Ok(path)
    }
}
